-- Appends one group: locks its topics in the order of their names, judges every call, writes, and gives each its
-- outcome. It is one statement in a transaction of its own, so no lock outlives it, whatever becomes of the client.
--
-- It repeats the decisions of `judge`, `advance`, `rehearse` and `may_join` of events/log/rules.py; a test runs random
-- appends through both. Status of an append: 0 done, 1 its key had been used, 2 wrong owner, 3 another offset expected
-- (`first` is the next one), 4 closed (the same), 5 not done because another append of its call was refused.

CREATE FUNCTION trilane.append(
    p_process bigint, p_number bigint, p_is_retry boolean, p_now_ms bigint,
    p_names text[], p_epochs text[],       -- the topics, sorted, each once; the epoch that each gets if it is made
    p_call integer[], p_at integer[], p_name text[], p_owner text[], p_expect bigint[], p_key text[], p_close boolean[],
    p_count integer[], p_size bigint[], p_data bytea[], p_bucket integer[],
    OUT o_generation text, OUT o_news bigint, OUT o_xid text, OUT o_status smallint[], OUT o_first bigint[],
    OUT o_last bigint[], OUT o_epochs text[], OUT o_events bigint[], OUT o_bytes bigint[]
) LANGUAGE plpgsql SET search_path = pg_catalog SET lock_timeout = '4s' AS $$
DECLARE
    n integer := cardinality(p_call);
    size integer[] := ARRAY[cardinality(p_names)];
    has_keys boolean := array_remove(p_key, NULL) <> '{}';
    t_id bigint[] := array_fill(NULL::bigint, size);
    t_owner text[] := array_fill(''::text, size);
    t_head bigint[] := array_fill(0::bigint, size);
    t_total bigint[] := array_fill(0::bigint, size);
    t_closed boolean[] := array_fill(false, size);
    t_oldest bigint[] := array_fill(1::bigint, size);
    t_base bigint[] := array_fill(0::bigint, size);
    t_updated bigint[] := array_fill(p_now_ms, size);
    t_made boolean[] := array_fill(false, size);
    t_changed boolean[] := array_fill(false, size);
    t_block integer[] := array_fill(0, size);      -- the newest block of the group, by topic
    b_name text[] := '{}';                         -- name, events and bytes of each block of the group
    b_count integer[] := '{}';
    b_size bigint[] := '{}';
    x_block integer[] := array_fill(0, ARRAY[n]);  -- the block and the total of each append; 0: none
    x_total bigint[] := array_fill(0::bigint, ARRAY[n]);
    x_keeps boolean[] := array_fill(false, ARRAY[n]);
    k_first bigint[] := array_fill(NULL::bigint, ARRAY[n]);
    k_last bigint[] := array_fill(NULL::bigint, ARRAY[n]);
    g_key text[] := '{}';                          -- keys that appends of the group have used, with their append
    g_append integer[] := '{}';
    s_id bigint[]; s_epoch text[]; s_owner text[]; s_head bigint[]; s_total bigint[]; s_closed boolean[];
    s_updated bigint[]; s_made boolean[]; s_changed boolean[]; s_block integer[];
    s_name text[]; s_count integer[]; s_size bigint[]; s_key text[]; s_append integer[];
    row record;
    i integer := 1;
    j integer;
    k integer;
    a integer;
    b integer;
    refused integer;
BEGIN
    o_epochs := array_fill(''::text, size);
    o_status := array_fill(0::smallint, ARRAY[n]);
    o_first := array_fill(0::bigint, ARRAY[n]);
    o_last := array_fill(0::bigint, ARRAY[n]);
    SELECT generation INTO o_generation FROM trilane.state;
    FOR row IN
        SELECT u.at, t.id, t.epoch, t.owner, t.head, t.total, t.closed, t.oldest, t.base, t.updated_ms
        FROM unnest(p_names) WITH ORDINALITY u(name, at) JOIN trilane.topics t ON t.name = u.name
        ORDER BY t.name FOR NO KEY UPDATE OF t
    LOOP
        a := row.at;
        t_id[a] := row.id; o_epochs[a] := row.epoch; t_owner[a] := row.owner; t_head[a] := row.head;
        t_total[a] := row.total; t_closed[a] := row.closed; t_oldest[a] := row.oldest; t_base[a] := row.base;
        t_updated[a] := row.updated_ms;
    END LOOP;
    IF p_is_retry THEN
        SELECT * INTO row FROM trilane.news WHERE process = p_process AND number = p_number;
        IF FOUND THEN
            o_news := row.id; o_xid := row.xid::text; o_status := row.status; o_first := row.first;
            o_last := row.last; o_epochs := row.epochs;
            RETURN;
        END IF;
    END IF;
    IF p_process <> 0 AND EXISTS (SELECT FROM trilane.news WHERE process = p_process AND number > p_number) THEN
        RAISE EXCEPTION 'its process has given up this group' USING ERRCODE = 'TL001';
    END IF;
    IF has_keys THEN
        FOR row IN
            SELECT u.n, o.first, o.last FROM unnest(p_at, p_key) WITH ORDINALITY u(at, key, n)
            JOIN trilane.keys o ON o.topic_id = t_id[u.at] AND o.key = u.key
            WHERE u.key IS NOT NULL AND o.time_ms > p_now_ms - 300000
        LOOP
            k_first[row.n] := row.first; k_last[row.n] := row.last;
        END LOOP;
    END IF;

    WHILE i <= n LOOP
        j := i;
        WHILE j < n AND p_call[j + 1] = p_call[i] LOOP j := j + 1; END LOOP;
        IF j > i THEN  -- a refusal undoes the appends of its call that came before it
            s_id := t_id; s_epoch := o_epochs; s_owner := t_owner; s_head := t_head; s_total := t_total;
            s_closed := t_closed; s_updated := t_updated; s_made := t_made; s_changed := t_changed; s_block := t_block;
            s_name := b_name; s_count := b_count; s_size := b_size; s_key := g_key; s_append := g_append;
        END IF;
        refused := 0;
        FOR k IN i..j LOOP
            a := p_at[k];
            IF p_owner[k] <> '' AND o_epochs[a] <> '' AND p_owner[k] <> t_owner[a] THEN
                o_status[k] := 2; refused := k;
                EXIT;
            END IF;
            IF p_key[k] IS NOT NULL THEN
                b := g_append[array_position(g_key, a || ' ' || p_key[k])];
                IF b IS NOT NULL THEN
                    o_status[k] := 1; o_first[k] := o_first[b]; o_last[k] := o_last[b];
                    CONTINUE;
                ELSIF k_first[k] IS NOT NULL THEN
                    o_status[k] := 1; o_first[k] := k_first[k]; o_last[k] := k_last[k];
                    CONTINUE;
                END IF;
            END IF;
            IF t_closed[a] OR p_expect[k] <> t_head[a] + 1 THEN
                o_status[k] := CASE WHEN t_closed[a] THEN 4 ELSE 3 END; o_first[k] := t_head[a] + 1; refused := k;
                EXIT;
            END IF;
            IF o_epochs[a] = '' THEN
                o_epochs[a] := p_epochs[a]; t_owner[a] := p_owner[k]; t_made[a] := true; t_updated[a] := p_now_ms;
                t_id[a] := nextval('trilane.topic_ids');
            END IF;
            t_changed[a] := true;
            t_closed[a] := p_close[k];
            o_first[k] := t_head[a] + 1;
            IF p_count[k] > 0 THEN
                t_head[a] := t_head[a] + p_count[k]; t_total[a] := t_total[a] + p_size[k]; t_updated[a] := p_now_ms;
                b := t_block[a];
                IF b > 0 AND b_name[b] = p_name[k] AND b_count[b] < 256 AND b_size[b] + p_size[k] <= 65536 THEN
                    b_count[b] := b_count[b] + p_count[k]; b_size[b] := b_size[b] + p_size[k];
                ELSE
                    b := cardinality(b_name) + 1;
                    b_name[b] := p_name[k]; b_count[b] := p_count[k]; b_size[b] := p_size[k]; t_block[a] := b;
                END IF;
                x_block[k] := b; x_total[k] := t_total[a];
            END IF;
            o_last[k] := t_head[a];
            IF p_key[k] IS NOT NULL THEN
                b := cardinality(g_key) + 1;
                g_key[b] := a || ' ' || p_key[k]; g_append[b] := k; x_keeps[k] := true;
            END IF;
        END LOOP;
        IF refused > 0 AND j > i THEN
            FOR k IN i..j LOOP
                x_block[k] := 0; x_keeps[k] := false;
                IF k <> refused THEN o_status[k] := 5; END IF;
            END LOOP;
            t_id := s_id; o_epochs := s_epoch; t_owner := s_owner; t_head := s_head; t_total := s_total;
            t_closed := s_closed; t_updated := s_updated; t_made := s_made; t_changed := s_changed; t_block := s_block;
            b_name := s_name; b_count := s_count; b_size := s_size; g_key := s_key; g_append := s_append;
        END IF;
        i := j + 1;
    END LOOP;

    SELECT array_agg(h - o + 1 ORDER BY at), array_agg(w - s ORDER BY at) INTO o_events, o_bytes
    FROM unnest(t_head, t_oldest, t_total, t_base) WITH ORDINALITY u(h, o, w, s, at);
    IF NOT (true = ANY (t_changed) OR p_is_retry) THEN
        RETURN;
    END IF;
    IF true = ANY (t_made) THEN
        INSERT INTO trilane.topics (id, name, epoch, owner, head, total, closed, updated_ms)
        SELECT u.id, u.name, u.epoch, u.owner, u.head, u.total, u.closed, u.updated_ms
        FROM unnest(t_id, p_names, o_epochs, t_owner, t_head, t_total, t_closed, t_updated, t_made)
            u(id, name, epoch, owner, head, total, closed, updated_ms, made)
        WHERE u.made ORDER BY u.name COLLATE "C";
    END IF;
    UPDATE trilane.topics t SET head = u.head, total = u.total, closed = u.closed, updated_ms = u.updated_ms
    FROM unnest(t_id, t_head, t_total, t_closed, t_updated, t_changed, t_made)
        u(id, head, total, closed, updated_ms, changed, made)
    WHERE t.id = u.id AND u.changed AND NOT u.made;
    INSERT INTO trilane.blocks (topic_id, first, count, total, time_ms, bucket, name, data)
    SELECT t_id[min(u.at)], min(u.first), sum(u.count), max(u.total), p_now_ms, max(u.bucket), min(u.name),
        string_agg(u.data, '\x0a'::bytea ORDER BY u.n)
    FROM unnest(x_block, p_at, o_first, p_count, x_total, p_bucket, p_name, p_data) WITH ORDINALITY
        u(block, at, first, count, total, bucket, name, data, n)
    WHERE u.block > 0 GROUP BY u.block;
    IF has_keys THEN
        INSERT INTO trilane.keys AS o (topic_id, key, first, last, time_ms)
        SELECT t_id[u.at], u.key, u.first, u.last, p_now_ms
        FROM unnest(x_keeps, p_at, p_key, o_first, o_last) u(keeps, at, key, first, last) WHERE u.keeps
        ON CONFLICT (topic_id, key) DO UPDATE
        SET first = excluded.first, last = excluded.last, time_ms = excluded.time_ms;
    END IF;
    INSERT INTO trilane.news (process, number, topics, epochs, closed, changed, status, first, last)
    VALUES (p_process, p_number, p_names, o_epochs, t_closed, t_changed, o_status, o_first, o_last)
    RETURNING id, xid::text INTO o_news, o_xid;
END $$;
