-- Counters of limits: copies `decide` of events/log/quotas.py. The tables are not logged: after a crash of the server
-- they are empty, and processes report the slots that they hold again.
CREATE UNLOGGED TABLE trilane.quota_holders (
    holder text COLLATE "C" PRIMARY KEY,
    heard_s double precision NOT NULL
) WITH (fillfactor = 50);
CREATE UNLOGGED TABLE trilane.quota_slots (
    counter text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (counter, holder)
) WITH (fillfactor = 50);
CREATE INDEX quota_slots_by_holder ON trilane.quota_slots (holder);
CREATE UNLOGGED TABLE trilane.quota_rates (
    counter text COLLATE "C" NOT NULL,
    bucket bigint NOT NULL,
    amount bigint NOT NULL,
    leaves_s bigint NOT NULL,
    PRIMARY KEY (counter, bucket)
) WITH (fillfactor = 50);
CREATE INDEX quota_rates_by_end ON trilane.quota_rates (leaves_s);

-- `p_batch` is {held: {counter: count}, settlements: [[counter, bucket, amount, [bucket_s, buckets]], ...],
-- calls: [[[counter, limit, amount, [bucket_s, buckets]], ...], ...]}; the reply is a TakeReply. `p_now_s` is 0 for the
-- server's own time. One batch at a time: what it reads stays true until it commits.
CREATE FUNCTION trilane.take(p_now_s double precision, p_live_s double precision, p_holder text, p_batch jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog SET lock_timeout = '4s' SET synchronous_commit = off AS $$
DECLARE
    now_s double precision;
    was_known boolean;
    outcomes jsonb := '[]';
    tallies jsonb;
    takes jsonb;
    t jsonb;
    bucket_s bigint;
    oldest bigint;
    sum_used bigint;
    pairs jsonb;
    refused integer;
    n integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('trilane quotas', 0));
    now_s := CASE WHEN p_now_s = 0 THEN extract(epoch FROM clock_timestamp()) ELSE p_now_s END;
    DELETE FROM trilane.quota_slots WHERE holder IN
        (SELECT h.holder FROM trilane.quota_holders h WHERE h.heard_s < now_s - p_live_s);
    DELETE FROM trilane.quota_holders WHERE heard_s < now_s - p_live_s;
    DELETE FROM trilane.quota_rates WHERE leaves_s <= now_s;
    UPDATE trilane.quota_holders SET heard_s = now_s WHERE holder = p_holder;
    was_known := FOUND;
    IF NOT was_known THEN
        INSERT INTO trilane.quota_holders VALUES (p_holder, now_s);
    END IF;
    IF p_batch -> 'held' <> '{}' THEN
        INSERT INTO trilane.quota_slots
        SELECT key, p_holder, value::bigint FROM jsonb_each_text(p_batch -> 'held')
        ON CONFLICT (counter, holder) DO UPDATE SET count = excluded.count;
        DELETE FROM trilane.quota_slots WHERE holder = p_holder AND count = 0;
    END IF;
    FOR t IN SELECT * FROM jsonb_array_elements(p_batch -> 'settlements') LOOP
        bucket_s := (t -> 3 ->> 0)::bigint;
        IF (t ->> 1)::bigint >= floor(now_s / bucket_s)::bigint - (t -> 3 ->> 1)::bigint THEN
            INSERT INTO trilane.quota_rates
            VALUES (t ->> 0, (t ->> 1)::bigint, (t ->> 2)::bigint,
                ((t ->> 1)::bigint + (t -> 3 ->> 1)::bigint + 1) * bucket_s)
            ON CONFLICT (counter, bucket) DO UPDATE SET amount = quota_rates.amount + excluded.amount;
        END IF;
    END LOOP;
    FOR takes IN SELECT * FROM jsonb_array_elements(p_batch -> 'calls') LOOP
        tallies := '[]';
        refused := -1;
        n := 0;
        FOR t IN SELECT * FROM jsonb_array_elements(takes) LOOP
            bucket_s := (t -> 3 ->> 0)::bigint;
            IF bucket_s > 0 THEN
                oldest := floor(now_s / bucket_s)::bigint - (t -> 3 ->> 1)::bigint;
                SELECT coalesce(sum(r.amount), 0), coalesce(jsonb_agg(jsonb_build_array(r.bucket, r.amount) ORDER BY r.bucket), '[]')
                INTO sum_used, pairs FROM trilane.quota_rates r WHERE r.counter = t ->> 0 AND r.bucket >= oldest;
            ELSE
                SELECT coalesce(sum(s.count), 0), '[]' INTO sum_used, pairs
                FROM trilane.quota_slots s WHERE s.counter = t ->> 0;
            END IF;
            tallies := tallies || jsonb_build_array(jsonb_build_array(sum_used, pairs));
            IF sum_used + greatest((t ->> 2)::bigint, 1) > (t ->> 1)::bigint THEN
                refused := n;
                EXIT;
            END IF;
            n := n + 1;
        END LOOP;
        IF refused < 0 THEN
            FOR t IN SELECT * FROM jsonb_array_elements(takes) LOOP
                bucket_s := (t -> 3 ->> 0)::bigint;
                IF bucket_s = 0 THEN
                    INSERT INTO trilane.quota_slots VALUES (t ->> 0, p_holder, (t ->> 2)::bigint)
                    ON CONFLICT (counter, holder) DO UPDATE SET count = quota_slots.count + excluded.count;
                ELSIF (t ->> 2)::bigint > 0 THEN
                    oldest := floor(now_s / bucket_s)::bigint;
                    INSERT INTO trilane.quota_rates
                    VALUES (t ->> 0, oldest, (t ->> 2)::bigint, (oldest + (t -> 3 ->> 1)::bigint + 1) * bucket_s)
                    ON CONFLICT (counter, bucket) DO UPDATE SET amount = quota_rates.amount + excluded.amount;
                END IF;
            END LOOP;
        END IF;
        outcomes := outcomes || jsonb_build_array(jsonb_build_array(refused, tallies));
    END LOOP;
    RETURN jsonb_build_array(was_known, now_s, outcomes);
END $$;
