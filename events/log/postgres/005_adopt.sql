-- Takes over blocks of another log, if the topic's head is still `p_head` (that of a new one is `p_oldest` - 1); returns
-- whether it was. `continuation` of events/log/rules.py has said which blocks.
CREATE FUNCTION trilane.adopt(
    p_process bigint, p_number bigint, p_name text, p_epoch text, p_owner text, p_oldest bigint, p_head bigint,
    p_closes boolean, p_now_ms bigint, p_first bigint[], p_count integer[], p_size bigint[], p_time_ms bigint[],
    p_block_name text[], p_data bytea[], p_bucket integer[]
) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog SET lock_timeout = '4s' AS $$
DECLARE
    topic trilane.topics;
    current text;
BEGIN
    SELECT generation INTO current FROM trilane.state;
    SELECT * INTO topic FROM trilane.topics WHERE name = p_name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        IF p_head <> p_oldest - 1 THEN
            RETURN false;
        END IF;
        INSERT INTO trilane.topics (id, name, epoch, generation, owner, head, total, closed, oldest, updated_ms)
        VALUES (nextval('trilane.topic_ids'), p_name, p_epoch, current, p_owner, p_head, 0, false, p_oldest, p_now_ms)
        RETURNING * INTO topic;
    ELSIF topic.head <> p_head OR trilane.shown(topic.epoch, topic.generation, current) <> p_epoch THEN
        RETURN false;
    END IF;
    INSERT INTO trilane.blocks (topic_id, first, count, total, time_ms, bucket, name, data)
    SELECT topic.id, u.first, u.count, topic.total + sum(u.size) OVER (ORDER BY u.first), u.time_ms, u.bucket, u.name,
        u.data
    FROM unnest(p_first, p_count, p_size, p_time_ms, p_bucket, p_block_name, p_data)
        u(first, count, size, time_ms, bucket, name, data);
    UPDATE trilane.topics t SET
        head = t.head + coalesce((SELECT sum(c) FROM unnest(p_count) c), 0),
        total = t.total + coalesce((SELECT sum(s) FROM unnest(p_size) s), 0),
        updated_ms = coalesce(p_time_ms[cardinality(p_time_ms)], t.updated_ms),
        closed = t.closed OR p_closes
    WHERE t.id = topic.id;
    INSERT INTO trilane.news (process, number, topics, epochs, closed, changed, status, first, last)
    VALUES (p_process, p_number, ARRAY[p_name], ARRAY[p_epoch], ARRAY[p_closes], '{t}', '{0}', '{0}', '{0}');
    RETURN true;
END $$;
