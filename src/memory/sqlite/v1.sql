-- The store of lunacore, version 1. Times are microseconds since 1970-01-01T00:00:00Z.

CREATE TABLE runs (
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
    pausing INTEGER NOT NULL DEFAULT 0,
    deadline INTEGER,
    failure TEXT,
    reason TEXT,
    accepted_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER,
    -- The last column: who reads the others never comes by a plan of a hundred thousand steps.
    plan TEXT NOT NULL
) STRICT;

CREATE INDEX runs_unfinished ON runs (no) WHERE finished_at IS NULL;

-- In the order of writing: the steps of many runs that are stored together are in a few pages, and not in one of each run.
CREATE TABLE steps (
    run INTEGER NOT NULL,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    key_no INTEGER,
    version INTEGER,
    artifact_id BLOB,
    output ANY NOT NULL,
    PRIMARY KEY (run, step)
) STRICT;

CREATE UNIQUE INDEX steps_artifacts ON steps (key_no, version) WHERE key_no IS NOT NULL;

-- Without an index of its own for the numbers: each new key would write one page more.
CREATE TABLE artifact_keys (
    tenant TEXT NOT NULL,
    project TEXT NOT NULL,
    key TEXT NOT NULL,
    no INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    PRIMARY KEY (tenant, project, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE artifacts (
    key_no INTEGER NOT NULL,
    version INTEGER NOT NULL,
    id BLOB NOT NULL,
    type TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    meta TEXT,
    run INTEGER,
    step INTEGER,
    data ANY NOT NULL,
    PRIMARY KEY (key_no, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    run INTEGER,
    at INTEGER NOT NULL,
    step INTEGER,
    ids BLOB NOT NULL,
    payload TEXT NOT NULL
) STRICT;

CREATE TABLE breakers (
    name TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    until INTEGER,
    failures INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE VIEW run_overview AS
SELECT
    r.run_id,
    r.name,
    r.state,
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
