-- Version 2: runs that are repaired, held, undone; steps that wait for a signal.

DROP VIEW run_overview;
DROP VIEW event_log;
DROP VIEW artifact_overview;

CREATE TABLE runs_2 (
    no INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    project TEXT NOT NULL,
    name TEXT,
    steps INTEGER NOT NULL,
    self_contained INTEGER NOT NULL,
    durability TEXT,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    step_since INTEGER,
    step_until INTEGER,
    fallback INTEGER NOT NULL DEFAULT 0,
    verifying INTEGER NOT NULL DEFAULT 0,
    held TEXT,
    pausing INTEGER NOT NULL DEFAULT 0,
    deadline INTEGER,
    generation INTEGER NOT NULL DEFAULT 1,
    undoing TEXT,
    failure TEXT,
    reason TEXT,
    accepted_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER,
    set_inputs TEXT,
    -- The last column: who reads the others never comes by a plan of a hundred thousand steps.
    plan TEXT NOT NULL
) STRICT;

INSERT INTO runs_2 (
    no, run_id, tenant, project, name, steps, self_contained, durability, state, attempt, step_since, step_until, fallback,
    pausing, deadline, failure, reason, accepted_at, started_at, finished_at, first_seq, last_seq, plan
) SELECT
    no, run_id, tenant, project, name, steps, self_contained, durability, state, attempt, step_since, step_until, fallback,
    pausing, deadline, failure, reason, accepted_at, started_at, finished_at, first_seq, last_seq, plan
FROM runs;

DROP TABLE runs;
ALTER TABLE runs_2 RENAME TO runs;

CREATE INDEX runs_unfinished ON runs (no) WHERE finished_at IS NULL;

-- The generation of the run in which the step completed.
ALTER TABLE steps ADD COLUMN generation INTEGER NOT NULL DEFAULT 1;

-- Signals that no step has taken yet.
CREATE TABLE signals (
    run INTEGER NOT NULL,
    no INTEGER NOT NULL,
    at INTEGER NOT NULL,
    name TEXT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (run, no)
) STRICT, WITHOUT ROWID;

CREATE VIEW unfinished_runs AS
SELECT * FROM runs INDEXED BY runs_unfinished WHERE finished_at IS NULL;

CREATE VIEW run_overview AS
SELECT
    r.run_id,
    r.name,
    r.state,
    r.generation,
    (SELECT count(*) FROM steps s WHERE s.run = r.no) AS completed_steps,
    r.steps,
    r.failure ->> '$.error' AS failure,
    r.reason,
    strftime('%Y-%m-%dT%H:%M:%S', r.accepted_at / 1000000, 'unixepoch')
        || printf('.%06dZ', r.accepted_at % 1000000) AS accepted,
    strftime('%Y-%m-%dT%H:%M:%S', r.started_at / 1000000, 'unixepoch')
        || printf('.%06dZ', r.started_at % 1000000) AS started,
    strftime('%Y-%m-%dT%H:%M:%S', r.finished_at / 1000000, 'unixepoch')
        || printf('.%06dZ', r.finished_at % 1000000) AS finished
FROM runs r;

CREATE VIEW event_log AS
SELECT
    e.seq + j.key AS seq,
    strftime('%Y-%m-%dT%H:%M:%S', e.at / 1000000, 'unixepoch')
        || printf('.%06dZ', e.at % 1000000) AS time,
    r.run_id,
    j.value ->> '$.type' AS type,
    j.value ->> '$.task_id' AS task_id,
    CASE WHEN typeof(s.output) = 'text'
        THEN json_insert(json_remove(j.value, '$.type'), '$.result', json(s.output))
        ELSE json_remove(j.value, '$.type')
    END AS payload
FROM events e
JOIN json_each(e.payload) j
LEFT JOIN runs r ON r.no = e.run
LEFT JOIN steps s ON s.run = e.run AND s.step = e.step
    AND j.value ->> '$.type' = 'task.completed'
    AND j.value -> '$.result' IS NULL
    AND j.value -> '$.bytes' IS NULL;

CREATE VIEW artifact_overview AS
SELECT
    k.tenant,
    k.project,
    k.key,
    a.version,
    a.type,
    r.run_id,
    a.step,
    CASE WHEN typeof(a.data) = 'text' THEN a.data END AS data
FROM artifact_keys k
JOIN artifacts a ON a.key_no = k.no
LEFT JOIN runs r ON r.no = a.run
UNION ALL
SELECT
    k.tenant,
    k.project,
    k.key,
    s.version,
    'task_result',
    r.run_id,
    s.step,
    CASE WHEN typeof(s.output) = 'text'
        THEN CASE WHEN substr(s.output, 1, 1) = '"' THEN s.output ->> '$' ELSE s.output END
    END
FROM artifact_keys k
JOIN steps s ON s.key_no = k.no
LEFT JOIN runs r ON r.no = s.run;
