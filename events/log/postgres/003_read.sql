-- Reads, deletes and forgets. Each function is one statement of its caller, and so one consistent view or transaction.

-- `events.log.rules.cut` cuts to the limits exactly; this gives at most a block more than they allow.
CREATE FUNCTION trilane.read(
    p_topic text, p_after bigint, p_max_events bigint, p_max_bytes bigint,
    OUT epoch text, OUT owner text, OUT closed boolean, OUT oldest bigint, OUT head bigint,
    OUT firsts bigint[], OUT counts integer[], OUT times bigint[], OUT names text[], OUT data bytea
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
DECLARE
    own_id bigint;
    start bigint;
    start_total bigint;
BEGIN
    SELECT t.id, trilane.shown(t.epoch, t.generation, s.generation), t.owner, t.closed, t.oldest, t.head, t.base
    INTO own_id, epoch, owner, closed, oldest, head, start_total
    FROM trilane.topics t, trilane.state s WHERE t.name = p_topic;
    IF own_id IS NULL OR p_after >= head THEN
        RETURN;
    END IF;
    start := oldest;
    IF p_after >= oldest THEN
        SELECT b.first, b.total - (octet_length(b.data) - b.count + 1) INTO start, start_total
        FROM trilane.blocks b WHERE b.topic_id = own_id AND b.first >= oldest AND b.first <= p_after + 1
        ORDER BY b.first DESC LIMIT 1;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    SELECT array_agg(b.first ORDER BY b.first), array_agg(b.count ORDER BY b.first),
        array_agg(b.time_ms ORDER BY b.first), array_agg(b.name ORDER BY b.first),
        string_agg(b.data, '\x0a'::bytea ORDER BY b.first)
    INTO firsts, counts, times, names, data
    FROM trilane.blocks b
    WHERE b.topic_id = own_id AND b.first >= start AND b.first <= greatest(start, p_after + p_max_events)
        AND (b.total <= start_total + p_max_bytes OR b.first = start);
END $$;

CREATE FUNCTION trilane.count_by_name(p_topic text, p_after bigint, p_upto bigint)
RETURNS TABLE (name text, events bigint) LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT b.name, sum(least(b.first + b.count - 1, p_upto) - greatest(b.first, p_after + 1) + 1)::bigint
    FROM trilane.topics t JOIN trilane.blocks b ON b.topic_id = t.id
    WHERE t.name = p_topic AND b.first >= t.oldest AND b.first <= p_upto AND p_upto > p_after
        AND b.first + b.count > p_after + 1 AND b.first >= coalesce((
            SELECT s.first FROM trilane.blocks s WHERE s.topic_id = t.id AND s.first <= p_after + 1
            ORDER BY s.first DESC LIMIT 1), 0)
    GROUP BY b.name
$$;

-- Removes a topic and gives the epoch that it had. `p_is_old` leaves its blocks to the end of their day.
CREATE FUNCTION trilane.remove(
    p_process bigint, p_number bigint, p_topic text, p_is_old boolean, p_updated_ms bigint,
    OUT o_epoch text
) LANGUAGE plpgsql SET search_path = pg_catalog SET lock_timeout = '4s' AS $$
DECLARE
    topic trilane.topics;
BEGIN
    SELECT epochs[1] INTO o_epoch FROM trilane.news WHERE process = p_process AND number = p_number;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO topic FROM trilane.topics WHERE name = p_topic FOR UPDATE;
    IF NOT FOUND OR (p_is_old AND (NOT topic.closed OR topic.updated_ms <> p_updated_ms)) THEN
        RETURN;
    END IF;
    SELECT trilane.shown(topic.epoch, topic.generation, s.generation) INTO o_epoch FROM trilane.state s;
    DELETE FROM trilane.blocks WHERE topic_id = topic.id AND (NOT p_is_old OR bucket < 2);
    DELETE FROM trilane.keys WHERE topic_id = topic.id;
    DELETE FROM trilane.topics WHERE id = topic.id;
    INSERT INTO trilane.news (process, number, topics, epochs, closed, changed, status, first, last)
    VALUES (p_process, p_number, ARRAY[p_topic], ARRAY[o_epoch], '{f}', '{t}', '{0}', '{0}', '{0}');
END $$;

-- Drops blocks that lie beyond a bound (see `TrimBounds`) as a whole, oldest first; returns whether some are left over.
CREATE FUNCTION trilane.trim(p_id bigint, p_offset bigint, p_total bigint, p_time_ms bigint, p_max_rows integer)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog SET lock_timeout = '4s' AS $$
DECLARE
    topic trilane.topics;
    stays record;
    stop record;
    is_left_over boolean := false;
BEGIN
    SELECT * INTO topic FROM trilane.topics WHERE id = p_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT b.first, b.total - (octet_length(b.data) - b.count + 1) AS base INTO stop FROM trilane.blocks b
    WHERE b.topic_id = p_id AND b.first >= topic.oldest ORDER BY b.first OFFSET p_max_rows LIMIT 1;
    SELECT b.first, b.total - (octet_length(b.data) - b.count + 1) AS base INTO stays FROM trilane.blocks b
    WHERE b.topic_id = p_id AND b.first >= topic.oldest AND (stop.first IS NULL OR b.first <= stop.first)
        AND b.first + b.count - 1 > p_offset AND b.total > p_total AND b.time_ms >= p_time_ms
    ORDER BY b.first LIMIT 1;
    IF stays.first IS NULL AND stop.first IS NOT NULL THEN
        stays := stop;
        is_left_over := true;
    ELSIF stays.first IS NULL THEN
        SELECT topic.head + 1 AS first, topic.total AS base INTO stays;
    END IF;
    IF stays.first > topic.oldest THEN
        UPDATE trilane.topics SET oldest = stays.first, base = stays.base WHERE id = p_id;
        DELETE FROM trilane.blocks b WHERE b.topic_id = p_id AND b.first >= topic.oldest AND b.first < stays.first
            AND (b.bucket < 2 OR b.first + b.count - 1 <= p_offset OR b.total <= p_total);
    END IF;
    RETURN is_left_over;
END $$;

-- Makes the partition of a day. It is attached, because that locks nobody out.
CREATE FUNCTION trilane.make_bucket(p_bucket integer) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog SET lock_timeout = '4s' AS $$
DECLARE
    partition text := 'blocks_' || p_bucket;
BEGIN
    IF p_bucket < 2 OR to_regclass('trilane.' || partition) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('trilane buckets', 0));
    IF to_regclass('trilane.' || partition) IS NULL THEN
        EXECUTE format('CREATE TABLE trilane.%I (LIKE trilane.blocks INCLUDING ALL)', partition);
        EXECUTE format('ALTER TABLE trilane.blocks ATTACH PARTITION trilane.%I FOR VALUES FROM (%s) TO (%s)',
            partition, p_bucket, p_bucket + 1);
    END IF;
EXCEPTION WHEN duplicate_table THEN
    NULL;  -- another process made it while this one waited: what to_regclass said is remembered, however old
END $$;

-- Returns the days that are over, oldest first.
CREATE FUNCTION trilane.old_buckets(p_today integer) RETURNS SETOF integer LANGUAGE sql STABLE
SET search_path = pg_catalog AS $$
    SELECT substr(c.relname, 8)::integer FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'trilane.blocks'::regclass AND c.relname ~ '^blocks_[0-9]+$'
        AND substr(c.relname, 8)::integer < p_today ORDER BY 1
$$;

-- Drops the partition of a day that is over. Blocks that a topic still holds (a run that stays open) are moved first.
CREATE FUNCTION trilane.drop_bucket(p_bucket integer) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog SET lock_timeout = '200ms' AS $$
BEGIN
    EXECUTE format('LOCK TABLE trilane.%I IN EXCLUSIVE MODE', 'blocks_' || p_bucket);
    UPDATE trilane.blocks b SET bucket = 1 FROM trilane.topics t
    WHERE b.bucket = p_bucket AND t.id = b.topic_id AND b.first >= t.oldest;
    EXECUTE format('DROP TABLE trilane.%I', 'blocks_' || p_bucket);
END $$;

-- Takes a lease for some seconds; returns whether it is ours.
CREATE FUNCTION trilane.lease(p_work text, p_seconds double precision) RETURNS boolean LANGUAGE sql
SET search_path = pg_catalog AS $$
    WITH taken AS (
        UPDATE trilane.leases SET ends = now() + make_interval(secs => p_seconds)
        WHERE work = p_work AND ends < now() RETURNING 1)
    SELECT EXISTS (SELECT FROM taken)
$$;
