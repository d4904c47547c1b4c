-- The tables of the log. Blocks are only ever added; a topic's row holds its head, and is locked to move it.

CREATE SCHEMA IF NOT EXISTS trilane;

-- One row. A copy of the database that lacks acknowledged events gets another generation, and with it every topic
-- another epoch: no cursor of before may seem to fit.
CREATE TABLE trilane.state (generation text NOT NULL);
INSERT INTO trilane.state VALUES ('');

CREATE SEQUENCE trilane.topic_ids;

-- No column that changes with each append is in an index, so that those updates stay within their page.
CREATE TABLE trilane.topics (
    id bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    epoch text NOT NULL,
    owner text NOT NULL,
    head bigint NOT NULL,
    total bigint NOT NULL,                 -- bytes of all events ever appended
    closed boolean NOT NULL,
    oldest bigint NOT NULL DEFAULT 1,      -- offset of the oldest event kept
    base bigint NOT NULL DEFAULT 0,        -- bytes of all events before the oldest
    updated_ms bigint NOT NULL
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX topics_of_owner ON trilane.topics (owner, name);
CREATE INDEX topics_open ON trilane.topics (name) WHERE NOT closed;

-- `bucket` is the day, counted from 1970, after which a block is not needed any more; 0 is kept until deleted, and 1
-- holds what outlived its day. So retention drops whole partitions, and vacuum has nothing to do there.
CREATE TABLE trilane.blocks (
    topic_id bigint NOT NULL,
    first bigint NOT NULL,
    count integer NOT NULL,
    total bigint NOT NULL,                 -- bytes ever appended up to the end of the block
    time_ms bigint NOT NULL,
    bucket integer NOT NULL,
    name text NOT NULL,
    data bytea NOT NULL,                   -- one event a line
    PRIMARY KEY (topic_id, first, bucket)
) PARTITION BY RANGE (bucket);
CREATE TABLE trilane.blocks_kept PARTITION OF trilane.blocks FOR VALUES FROM (0) TO (1);
CREATE TABLE trilane.blocks_late PARTITION OF trilane.blocks FOR VALUES FROM (1) TO (2);

CREATE TABLE trilane.keys (
    topic_id bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    time_ms bigint NOT NULL,
    PRIMARY KEY (topic_id, key)
);
CREATE INDEX keys_by_time ON trilane.keys (time_ms);

-- One row for each group of appends: news for the other processes, and its results for a writer that lost the reply.
CREATE TABLE trilane.news (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    made timestamptz NOT NULL DEFAULT now(),
    process bigint NOT NULL,
    number bigint NOT NULL,                -- of the group, within its process
    topics text[] NOT NULL,
    epochs text[] NOT NULL,
    closed boolean[] NOT NULL,
    changed boolean[] NOT NULL,
    status smallint[] NOT NULL,
    first bigint[] NOT NULL,
    last bigint[] NOT NULL,
    CONSTRAINT news_group UNIQUE (process, number)
);
CREATE INDEX news_by_xid ON trilane.news (xid);
CREATE INDEX news_by_time ON trilane.news (made);

-- Work that one process does for all. A lease ends by itself, so a process that is stopped holds nothing up for long.
CREATE TABLE trilane.leases (work text PRIMARY KEY, ends timestamptz NOT NULL);
INSERT INTO trilane.leases VALUES ('retention', '-infinity');

-- What applications published in their own transactions, until it is moved into the log.
CREATE TABLE trilane.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    event text NOT NULL,
    data text NOT NULL,
    key text
);
CREATE SEQUENCE trilane.relays;
