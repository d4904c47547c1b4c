-- Applies the retention to some topics, to the block.
--
-- ARGV: the sweeper's name, the time in ms (0: the server's own), and packed [[topic, max_events, max_bytes, age_ms,
-- closed_age_ms, idle_age_ms], ...], `false` where there is no limit. Returns, packed: [whether blocks are left over for another
-- call, [[topic, epoch], ...] of those that were deleted as a whole].
local BUDGET = 500
local now, dropped, news, budget = now_of(ARGV[2]), {}, {}, BUDGET
for _, item in ipairs(cmsgpack.unpack(ARGV[3])) do
  local s = load_topic(item[1])
  local max_events, max_bytes, age, closed_age, idle_age = item[2], item[3], item[4], item[5], item[6]
  local whole_age = (s.closed and closed_age) or (not s.closed and idle_age)
  if s.epoch ~= '' and whole_age and s.updated < now - whole_age then
    drop_topic(s)
    dropped[#dropped + 1] = {s.name, s.epoch}
    news[#news + 1] = {s.name, s.epoch, 0, false, 0, 0}
  elseif s.epoch ~= '' and s.oldest <= s.head and budget > 0 then
    local events, bytes = s.head - s.oldest + 1, s.total - s.base
    if age or (max_events and events > max_events) or (max_bytes and bytes > max_bytes) then
      local gone = trim_topic(s, max_events and s.head - max_events or -1, max_bytes and s.total - max_bytes or -1,
        age and now - age or -1, budget)
      if gone > 0 then call('HSET', P .. 't:' .. s.name, 'oldest', s.oldest, 'base', s.base) end
      budget = budget - gone
    end
  end
end
publish(ARGV[1], news)
return cmsgpack.pack({budget <= 0, dropped})
