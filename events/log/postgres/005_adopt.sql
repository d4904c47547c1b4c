-- Takes over blocks of another log's topic, when it is as its caller has read it; returns whether it was.
--
-- Their days may have no partition, or one that is about to go: `p_bucket` is one of those that stay, 0 or 1.
CREATE FUNCTION trilane.adopt(
    p_topic text, p_epoch text, p_owner text, p_oldest bigint, p_head bigint, p_closed boolean, p_bucket integer,
    p_now_ms bigint,
    p_first bigint[], p_count integer[], p_size bigint[], p_time_ms bigint[], p_name text[], p_data bytea[]
) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog SET lock_timeout = '4s' AS $$
DECLARE
    topic trilane.topics;
    n integer := cardinality(p_first);
BEGIN
    INSERT INTO trilane.topics (id, name, epoch, owner, head, total, closed, oldest, updated_ms)
    VALUES (nextval('trilane.topic_ids'), p_topic, p_epoch, p_owner, p_oldest - 1, 0, false, p_oldest, p_now_ms)
    ON CONFLICT (name) DO NOTHING;
    SELECT * INTO topic FROM trilane.topics WHERE name = p_topic FOR NO KEY UPDATE;
    IF topic.epoch <> p_epoch OR topic.head <> p_head THEN
        RETURN false;
    END IF;
    INSERT INTO trilane.blocks (topic_id, first, count, total, time_ms, bucket, name, data)
    SELECT topic.id, u.first, u.count, topic.total + sum(u.size) OVER (ORDER BY u.first), u.time_ms, p_bucket, u.name, u.data
    FROM unnest(p_first, p_count, p_size, p_time_ms, p_name, p_data) u(first, count, size, time_ms, name, data);
    IF n > 0 THEN
        topic.head := p_first[n] + p_count[n] - 1;
        topic.updated_ms := p_time_ms[n];
        topic.total := topic.total + (SELECT sum(size) FROM unnest(p_size) size);
    END IF;
    topic.closed := topic.closed OR p_closed;
    UPDATE trilane.topics SET head = topic.head, total = topic.total, closed = topic.closed, updated_ms = topic.updated_ms
    WHERE id = topic.id;
    INSERT INTO trilane.news (process, number, topics, epochs, closed, changed, status, first, last)
    VALUES (0, nextval('trilane.relays'), ARRAY[p_topic], ARRAY[p_epoch], ARRAY[topic.closed], '{t}', '{0}',
        ARRAY[p_head + 1], ARRAY[topic.head]);
    RETURN true;
END $$;
