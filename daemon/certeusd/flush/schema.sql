-- certeus: everything that it keeps in PostgreSQL (15 or later). Run once, as the role that shall own it:
--     certeusd schema | psql -v ON_ERROR_STOP=1 DATABASE
--
-- A daemon that connects as another role needs, and no more:
--     GRANT USAGE ON SCHEMA certeus TO certeus;
--     GRANT SELECT, INSERT ON certeus.events, certeus.dead_letters, certeus.gaps TO certeus;
--     GRANT SELECT, INSERT, UPDATE ON certeus.logs, certeus.flush_position TO certeus;
--     GRANT SELECT ON certeus.schema_version TO certeus;
--     GRANT EXECUTE ON FUNCTION certeus.make_leaf(date) TO certeus;
--     GRANT EXECUTE ON FUNCTION certeus.drop_leaves(date) TO certeus;   -- for postgres.retention_days
--     GRANT DELETE ON certeus.dead_letters TO certeus;                  -- for certeus dead-letters retry and drop

BEGIN;
-- Hosts that share a database start at the same time: one makes the schema, the others wait.
SELECT pg_advisory_xact_lock(1667593332, 1);

CREATE SCHEMA IF NOT EXISTS certeus;

CREATE TABLE IF NOT EXISTS certeus.schema_version (
    version integer PRIMARY KEY,
    made_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO certeus.schema_version (version) VALUES (1) ON CONFLICT DO NOTHING;

-- One row a log: hosts that share a database differ by log_id.
CREATE TABLE IF NOT EXISTS certeus.logs (
    log_id  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uuid    uuid NOT NULL UNIQUE,
    host    text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- Order is seq, dense within a log. recorded_at is the clock of the commit, without promise of order.
-- id is NULL where the producer gave none: readers then see producer_no:ticket.
CREATE TABLE IF NOT EXISTS certeus.events (
    log_id       integer NOT NULL,
    seq          bigint NOT NULL,
    recorded_at  timestamptz NOT NULL,
    time         timestamptz,
    tenant       text,
    source       text,
    id           text,
    type         text,
    subject      text,
    dataschema   text,
    content_type text,
    verdict      text NOT NULL,
    producer_no  bigint NOT NULL,
    ticket       bigint NOT NULL,
    data         json,
    data_bytes   bytea,
    extensions   json
) PARTITION BY RANGE (recorded_at);
CREATE INDEX IF NOT EXISTS events_brin ON certeus.events USING brin (seq, recorded_at);

CREATE OR REPLACE VIEW certeus.events_jsonb AS
    SELECT log_id, seq, recorded_at, time, tenant, source, id, type, subject, dataschema,
           content_type, verdict, producer_no, ticket, data::jsonb AS data, data_bytes,
           extensions::jsonb AS extensions
    FROM certeus.events;

-- Events that a constraint or a type refused. record is the logged record, byte for byte.
CREATE TABLE IF NOT EXISTS certeus.dead_letters (
    log_id      integer NOT NULL,
    seq         bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    sqlstate    text NOT NULL,
    reason      text NOT NULL,
    event       json,
    record      bytea NOT NULL,
    PRIMARY KEY (log_id, seq)
);

-- Numbers that the log does not hold any more, first and last included.
CREATE TABLE IF NOT EXISTS certeus.gaps (
    log_id    integer NOT NULL,
    first_seq bigint NOT NULL,
    last_seq  bigint NOT NULL,
    reason    text NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log_id, first_seq)
);

-- Moves in the transaction of the rows that it covers.
CREATE TABLE IF NOT EXISTS certeus.flush_position (
    log_id   integer NOT NULL,
    follower text NOT NULL,
    epoch    bigint NOT NULL,
    group_no bigint NOT NULL,
    seq      bigint NOT NULL,
    root     bytea NOT NULL,
    PRIMARY KEY (log_id, follower)
) WITH (fillfactor = 10);

-- Makes the partition of one UTC day, as the owner of the schema, and lets the caller write to it.
CREATE OR REPLACE FUNCTION certeus.make_leaf(day date) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    leaf text := 'events_' || to_char(day, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(1667593332, 2);
    IF to_regclass('certeus.' || leaf) IS NULL THEN
        EXECUTE format('CREATE TABLE certeus.%I (LIKE certeus.events INCLUDING ALL)', leaf);
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_inherits WHERE inhparent = 'certeus.events'::regclass
                                  AND inhrelid = to_regclass('certeus.' || leaf)
    ) THEN
        -- Unlike CREATE TABLE ... PARTITION OF, this does not wait for those who read events.
        EXECUTE format(
            'ALTER TABLE certeus.events ATTACH PARTITION certeus.%I FOR VALUES FROM (%L) TO (%L)',
            leaf, to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00',
            to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
    END IF;
    IF NOT has_table_privilege(session_user, 'certeus.' || leaf, 'INSERT') THEN
        EXECUTE format('GRANT SELECT, INSERT ON certeus.%I TO %I', leaf, session_user);
    END IF;
    RETURN leaf;
END $$;

-- Drops the partitions of days before the given one, and tells their names.
CREATE OR REPLACE FUNCTION certeus.drop_leaves(before date) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    leaf text;
BEGIN
    PERFORM pg_advisory_xact_lock(1667593332, 2);
    FOR leaf IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'certeus.events'::regclass AND relname ~ '^events_[0-9]{8}$'
          AND relname < 'events_' || to_char(before, 'YYYYMMDD')
        ORDER BY relname
    LOOP
        EXECUTE format('DROP TABLE certeus.%I', leaf);
        RETURN NEXT leaf;
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION certeus.make_leaf(date), certeus.drop_leaves(date) FROM PUBLIC;
COMMIT;
