-- What a connection that only reads sees of a store of version 1, which it may not upgrade: views of its own, in the shape of
-- the latest version, before the tables of the same names.

CREATE TEMP VIEW runs AS
SELECT *, 0 AS verifying, NULL AS held, 1 AS generation, NULL AS undoing, NULL AS set_inputs FROM main.runs;

CREATE TEMP VIEW unfinished_runs AS
SELECT *, 0 AS verifying, NULL AS held, 1 AS generation, NULL AS undoing, NULL AS set_inputs
FROM main.runs INDEXED BY runs_unfinished WHERE finished_at IS NULL;

CREATE TEMP VIEW steps AS SELECT *, 1 AS generation FROM main.steps;

CREATE TEMP VIEW signals AS SELECT 0 AS run, 0 AS no, 0 AS at, '' AS name, '' AS payload WHERE 0;
