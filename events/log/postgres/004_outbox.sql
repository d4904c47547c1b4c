-- An application publishes in its own transaction: the event is there when that commits, and only then.
--
-- It locks nothing of the log, so a transaction that stays open keeps nobody waiting and hides nobody's events. A
-- gateway moves what was committed into the log, in the order in which it was published within a transaction; two
-- transactions come in the order of their commits, as far as a gateway looked between them.
CREATE FUNCTION trilane.trilane_publish(topic text, event text, data jsonb, key text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF topic IS NULL OR topic !~ '^[A-Za-z0-9._:/-]{1,128}$'
        OR topic ~ '^(presence|user|audio|chat|run|usage|ticket)/' THEN
        RAISE EXCEPTION 'the topic % is not valid: 1 to 128 of A-Z a-z 0-9 . _ : / -, none of the gateway''s own',
            quote_nullable(left(topic, 140)) USING ERRCODE = 'invalid_parameter_value';
    ELSIF event IS NULL OR event !~ '^[A-Za-z0-9._:-]{1,64}$'
        OR event IN ('hello', 'gap', 'drain', 'busy', 'auth', 'bye') THEN
        RAISE EXCEPTION 'the event name % is not valid: 1 to 64 of A-Z a-z 0-9 . _ : -, none of the gateway''s own',
            quote_nullable(left(event, 80)) USING ERRCODE = 'invalid_parameter_value';
    ELSIF data IS NULL OR octet_length(data::text) > 65536 THEN
        RAISE EXCEPTION 'the data is % bytes: 1 to 65536 are allowed', coalesce(octet_length(data::text), 0)
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF key !~ '^[\x21-\x7e]{1,128}$' THEN
        RAISE EXCEPTION 'the key % is not valid: 1 to 128 visible ASCII characters', quote_literal(left(key, 140))
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO trilane.outbox (topic, event, data, key) VALUES (topic, event, data::text, key);
END $$;
REVOKE ALL ON FUNCTION trilane.trilane_publish FROM PUBLIC;

-- The same without the schema's name, where this role may make a function there.
DO $make$
BEGIN
    CREATE FUNCTION trilane_publish(topic text, event text, data jsonb, key text DEFAULT NULL) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS
    'SELECT trilane.trilane_publish(topic, event, data, key)';
    REVOKE ALL ON FUNCTION trilane_publish FROM PUBLIC;
EXCEPTION WHEN insufficient_privilege OR invalid_schema_name OR duplicate_function THEN
    RAISE NOTICE 'call it trilane.trilane_publish: %', SQLERRM;
END $make$;

-- Moves committed events of applications into the log; returns how many. One process at a time does it.
CREATE FUNCTION trilane.relay(p_now_ms bigint, p_bucket integer, p_max integer) RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog SET lock_timeout = '4s' AS $$
DECLARE
    names text[]; epochs text[]; events text[]; at integer[]; keys text[]; texts bytea[]; sizes bigint[];
    result record;
    n integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('trilane outbox', 0)) THEN
        RETURN 0;
    END IF;
    WITH moved AS (
        DELETE FROM trilane.outbox WHERE id IN (SELECT id FROM trilane.outbox ORDER BY id LIMIT p_max)
        RETURNING id, 'event/' || topic AS topic, event, convert_to(data, 'UTF8') AS data, key
    ), ranked AS (
        SELECT *, dense_rank() OVER (ORDER BY topic COLLATE "C") AS at FROM moved
    )
    SELECT array_agg(m.topic ORDER BY m.id), array_agg(m.event ORDER BY m.id), array_agg(m.at ORDER BY m.id),
        array_agg(m.key || ' outbox' ORDER BY m.id), array_agg(m.data ORDER BY m.id),
        array_agg(octet_length(m.data) ORDER BY m.id), count(*)
    INTO names, events, at, keys, texts, sizes, n FROM ranked m;
    IF n = 0 THEN
        RETURN 0;
    END IF;
    SELECT array_agg(d.name ORDER BY d.name), array_agg(left(md5(gen_random_uuid()::text), 8)) INTO names, epochs
    FROM (SELECT DISTINCT u.name COLLATE "C" AS name FROM unnest(names) u(name)) d;
    result := trilane.append(0, nextval('trilane.relays'), false, p_now_ms, names, epochs,
        ARRAY(SELECT generate_series(1, n)), at, events, array_fill(''::text, ARRAY[n]),
        array_fill(NULL::bigint, ARRAY[n]), keys, array_fill(false, ARRAY[n]), array_fill(1, ARRAY[n]), sizes, texts,
        array_fill(p_bucket, ARRAY[n]));
    RETURN n;
END $$;
