-- Counts for limits: copies `decide` of `events.log.quotas`. Below the prefix:
--   q:r:<counter>  hash: the amounts of a rate by bucket; it expires when its newest bucket counts no more
--   q:s:<counter>  hash: the slots that each process holds
--   q:h            sorted set: the processes that hold slots, by the second in which they were heard of
--   q:n:<holder>   set: the counters of which a process may hold slots
--
-- ARGV: the time in ms (0: the server's own), the seconds after which a process holds nothing, and the batch, packed:
-- [holder, {counter: count}, [[counter, bucket, amount, window], ...], [[[counter, limit, amount, window], ...], ...]].
-- Returns, packed: [was known, time in s, [[refused, [[used, [[bucket, amount], ...]], ...]], ...]].
local now = now_of(ARGV[1]) / 1000
local since = now - tonumber(ARGV[2])
local SWEPT = 10 -- dead processes forgotten by one batch
local holder, held, settlements, calls = unpack(cmsgpack.unpack(ARGV[3]))

local function add(counter, bucket, amount, window)
  local key = P .. 'q:r:' .. counter
  call('HINCRBY', key, string.format('%.0f', bucket), string.format('%.0f', amount))
  local ttl = (bucket + window[2] + 1) * window[1] - now
  if call('TTL', key) < ttl then call('EXPIRE', key, math.ceil(ttl)) end
end

local function buckets_of(counter, window)
  local key, oldest = P .. 'q:r:' .. counter, math.floor(now / window[1]) - window[2]
  local row, buckets, used = call('HGETALL', key), {}, 0
  for i = 1, #row, 2 do
    local bucket, amount = tonumber(row[i]), tonumber(row[i + 1])
    if bucket < oldest then
      call('HDEL', key, row[i])
    else
      buckets[#buckets + 1] = {bucket, amount}
      used = used + amount
    end
  end
  table.sort(buckets, function(a, b) return a[1] < b[1] end)
  return {used, buckets}
end

local function held_by_all(counter)
  local row, used = call('HGETALL', P .. 'q:s:' .. counter), 0
  for i = 1, #row, 2 do
    local heard = call('ZSCORE', P .. 'q:h', row[i])
    if heard and tonumber(heard) >= since then used = used + tonumber(row[i + 1]) end
  end
  return {used, {}}
end

local function hold(counter, amount)
  call('HINCRBY', P .. 'q:s:' .. counter, holder, amount)
  call('SADD', P .. 'q:n:' .. holder, counter)
end

for _, dead in ipairs(call('ZRANGEBYSCORE', P .. 'q:h', '-inf', '(' .. string.format('%.3f', since), 'LIMIT', 0, SWEPT)) do
  for _, counter in ipairs(call('SMEMBERS', P .. 'q:n:' .. dead)) do call('HDEL', P .. 'q:s:' .. counter, dead) end
  call('DEL', P .. 'q:n:' .. dead)
  call('ZREM', P .. 'q:h', dead)
end
local was_known = call('ZADD', P .. 'q:h', string.format('%.3f', now), holder) == 0
for counter, count in pairs(held) do
  if count == 0 then
    call('HDEL', P .. 'q:s:' .. counter, holder)
    call('SREM', P .. 'q:n:' .. holder, counter)
  else
    call('HSET', P .. 'q:s:' .. counter, holder, count)
    call('SADD', P .. 'q:n:' .. holder, counter)
  end
end
for _, s in ipairs(settlements) do
  if s[2] >= math.floor(now / s[4][1]) - s[4][2] then add(s[1], s[2], s[3], s[4]) end
end
local outcomes = {}
for i, takes in ipairs(calls) do
  local tallies, refused = {}, -1
  for n, t in ipairs(takes) do
    local tally = t[4][1] > 0 and buckets_of(t[1], t[4]) or held_by_all(t[1])
    tallies[n] = tally
    if tally[1] + math.max(t[3], 1) > t[2] then
      refused = n - 1
      break
    end
  end
  if refused < 0 then
    for _, t in ipairs(takes) do
      if t[4][1] == 0 then
        hold(t[1], t[3])
      elseif t[3] > 0 then
        add(t[1], math.floor(now / t[4][1]), t[3], t[4])
      end
    end
  end
  outcomes[i] = {refused, tallies}
end
return cmsgpack.pack({was_known, now, outcomes})
