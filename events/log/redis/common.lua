-- What all scripts share: where things are kept, and how a topic is loaded, saved, trimmed and dropped.
--
-- KEYS[1] is the prefix of all keys, such as `{trilane}:`, whose hash tag puts all of them on one slot of a cluster.
-- The scripts make the names of keys themselves; Redis allows that as long as they lie on that slot. Below it:
--   t:<topic>   hash: the topic's state
--   b:<topic>   stream: its blocks; an entry's id is <last offset>-<number of events>, so XRANGE from an offset begins
--               with the block that holds it, and XTRIM MINID drops what ends before it
--   k:<topic>NUL<birth>NUL<key>   an idempotency key: first, last, time
--   n, f        every topic by name; every family (the first segment of a name, with its slash)
--   o:<family>, c:<family>   its open and its closed topics, those of the last second first (the score is the negative
--       second of the last change: a stream of tokens moves its topic once a second, not with each of them)
--   u:<family>NUL<owner>     those of one owner
--   w:<writer>  the reply to a process's last group that wrote, so that a repetition gets it again
local P = KEYS[1]
local call = redis.call
local KEY_MS = 300000
local RECEIPT_MS = 600000

local function now_of(text)
  local now = tonumber(text)
  if now ~= 0 then return now end
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function family_of(name)
  return string.match(name, '^[^/]*/') or ''
end

local function load_topic(name)
  local h = call('HMGET', P .. 't:' .. name, 'epoch', 'owner', 'head', 'total', 'closed', 'oldest', 'base', 'updated', 'birth')
  if not h[1] then
    return {name = name, epoch = '', owner = '', head = 0, total = 0, closed = false, oldest = 1, base = 0, updated = 0}
  end
  return {
    name = name, epoch = h[1], owner = h[2], head = tonumber(h[3]), total = tonumber(h[4]), closed = h[5] == '1',
    oldest = tonumber(h[6]), base = tonumber(h[7]), updated = tonumber(h[8]), birth = h[9],
    is_kept = true, was_closed = h[5] == '1', was_oldest = tonumber(h[6]), was_updated = tonumber(h[8]),
  }
end

local function second_of(time)
  return math.floor(time / 1000)
end

local function save_topic(s)
  local name, family = s.name, family_of(s.name)
  if s.is_kept then
    call('HSET', P .. 't:' .. name, 'head', s.head, 'total', s.total, 'updated', s.updated)
    if s.closed or s.oldest ~= s.was_oldest then
      call('HSET', P .. 't:' .. name, 'closed', s.closed and 1 or 0, 'oldest', s.oldest, 'base', s.base)
    end
  else
    call('HSET', P .. 't:' .. name, 'epoch', s.epoch, 'owner', s.owner, 'head', s.head, 'total', s.total, 'closed',
      s.closed and 1 or 0, 'oldest', s.oldest, 'base', s.base, 'updated', s.updated, 'birth', s.birth)
    call('ZADD', P .. 'n', 0, name)
    call('SADD', P .. 'f', family)
  end
  local second, is_closed_now = second_of(s.updated), s.closed and not s.was_closed
  local is_moved = not s.is_kept or second ~= second_of(s.was_updated)
  if is_closed_now and s.is_kept then call('ZREM', P .. 'o:' .. family, name) end
  if is_moved or is_closed_now then call('ZADD', P .. (s.closed and 'c:' or 'o:') .. family, -second, name) end
  if is_moved and s.owner ~= '' then call('ZADD', P .. 'u:' .. family .. '\0' .. s.owner, -second, name) end
end

local function drop_topic(s)
  local name, family = s.name, family_of(s.name)
  call('DEL', P .. 't:' .. name, P .. 'b:' .. name)
  call('ZREM', P .. 'n', name)
  call('ZREM', P .. (s.closed and 'c:' or 'o:') .. family, name)
  if s.owner ~= '' then call('ZREM', P .. 'u:' .. family .. '\0' .. s.owner, name) end
end

-- The last offset, number of events, time, name, data and size of a block.
local function block_of(entry)
  local last, count = string.match(entry[1], '^(%d+)-(%d+)$')
  local f = entry[2]
  last, count = tonumber(last), tonumber(count)
  return last, count, tonumber(f[2]), f[4], f[6], #f[6] - count + 1
end

-- Drops a topic's blocks that lie beyond a bound as a whole, oldest first and `budget` of them at most. It changes
-- `oldest` and `base`, which the caller saves; returns how many went.
local function trim_topic(s, max_offset, max_total, min_time, budget)
  local key, gone = P .. 'b:' .. s.name, 0
  while gone < budget do
    local portion = math.min(budget - gone, gone == 0 and 4 or 32)
    local entries = call('XRANGE', key, '-', '+', 'COUNT', portion)
    local stays = #entries < portion
    local count = 0
    for _, entry in ipairs(entries) do
      local last, _, time, _, _, size = block_of(entry)
      if last > max_offset and s.base + size > max_total and time >= min_time then
        stays = true
        break
      end
      s.oldest, s.base, count = last + 1, s.base + size, count + 1
    end
    if count > 0 then call('XTRIM', key, 'MINID', string.format('%.0f', s.oldest)) end
    gone = gone + count
    if stays then break end
  end
  return gone
end

-- The reply that this group already has; raises when a later one of the same process was written meanwhile.
local function receipt_of(writer, number)
  local receipt = call('GET', P .. 'w:' .. writer)
  if not receipt then return nil end
  local at = string.find(receipt, ' ', 1, true)
  local latest = tonumber(string.sub(receipt, 1, at - 1))
  if latest == number then
    call('PEXPIRE', P .. 'w:' .. writer, RECEIPT_MS) -- a write, so that a WAIT behind it waits for the replicas
    return string.sub(receipt, at + 1)
  end
  if latest > number then error('STALE group') end
  return nil
end

local function keep_receipt(writer, number, reply)
  call('SET', P .. 'w:' .. writer, string.format('%.0f ', number) .. reply, 'PX', RECEIPT_MS)
  return reply
end

-- Tells other processes; `news` is a list of {topic, epoch, head, closed, events of its last block, their time} and,
-- for one whose only new block is carried along, {..., the block's name, the bytes of its events}. Those follow, in the
-- same order, behind the packed news, whose size stands first.
local function publish(writer, news, data)
  if #news == 0 then return end
  local packed = cmsgpack.pack({writer, news})
  call('PUBLISH', P .. 'news', string.format('%.0f ', #packed) .. packed .. (data or ''))
end
