-- What is not kept any more can be found, and removed a part at a time.

-- Finished runs in the order in which they finished: only the commit that finishes a run writes to it.
-- With their times, so that nobody who counts them comes by their plans.
CREATE INDEX runs_finished ON runs (last_seq, finished_at) WHERE finished_at IS NOT NULL;

-- The same in the order of their times, which a clock that is set back makes another one.
CREATE INDEX runs_finished_at ON runs (finished_at, last_seq) WHERE finished_at IS NOT NULL;

-- Deleted runs of which there may be outputs left that are no artifacts, from a step on.
CREATE TABLE leftovers (run INTEGER PRIMARY KEY, step INTEGER NOT NULL) STRICT;
