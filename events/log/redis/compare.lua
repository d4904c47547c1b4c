-- Compares what a process knows of topics with what is there; a topic that lost acknowledged events gets a new epoch.
--
-- ARGV: the process's name and, packed, [[topic, epoch, last, count, time], ...]: the newest block that it knows to be
-- acknowledged (a count of 0: only its offset). Another block in that place, or none, is a history that went back.
-- Returns, packed: [[epoch, head, closed, whether it went back], ...] in the same order; no epoch: no such topic.
local rows, news = {}, {}
for i, item in ipairs(cmsgpack.unpack(ARGV[2])) do
  local name, epoch, last, count, time = unpack(item)
  local s = load_topic(name)
  local is_lost = false
  if s.epoch ~= '' and s.epoch == epoch then
    is_lost = s.head < last
    if not is_lost and count > 0 and s.oldest <= last then
      local id = string.format('%.0f-%.0f', last, count)
      local entry = call('XRANGE', P .. 'b:' .. name, id, id)[1]
      is_lost = not entry or tonumber(entry[2][2]) ~= time
    end
  end
  if is_lost then
    local new = redis.sha1hex(epoch .. ' ' .. s.head .. ' ' .. last .. ' ' .. ARGV[1]):sub(1, 8)
    call('HSET', P .. 't:' .. name, 'epoch', new)
    s.epoch = new
    news[#news + 1] = {name, new, s.head, s.closed, 0, 0}
  end
  rows[i] = {s.epoch, s.head, s.closed, is_lost}
end
publish('', news)
return cmsgpack.pack(rows)
