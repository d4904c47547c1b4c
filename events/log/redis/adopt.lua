-- Writes blocks of a topic as another log has them: with its epoch, offsets and times.
--
-- ARGV: the process's name, the time in ms (0: the server's own), topic, epoch, owner, oldest offset, the head that the
-- topic must have here (oldest - 1: there may be no such topic), whether it closes ('1'), packed [[first, count, time,
-- name], ...], then the events of each, one a line. Returns 1, or 0 when the topic is not so, and nothing was done.
local s = load_topic(ARGV[3])
if s.epoch == '' then
  s.epoch, s.birth, s.owner, s.oldest = ARGV[4], ARGV[4], ARGV[5], tonumber(ARGV[6])
  s.head, s.updated = s.oldest - 1, now_of(ARGV[2])
end
if s.epoch ~= ARGV[4] or s.head ~= tonumber(ARGV[7]) then return 0 end
local count, time = 0, 0
for i, block in ipairs(cmsgpack.unpack(ARGV[9])) do
  local data = ARGV[9 + i]
  count, time = block[2], block[3]
  s.head, s.total, s.updated = block[1] + count - 1, s.total + #data - count + 1, time
  call('XADD', P .. 'b:' .. s.name, string.format('%.0f-%.0f', s.head, count), 't', time, 'n', block[4], 'd', data)
end
s.closed = s.closed or ARGV[8] == '1'
save_topic(s)
publish(ARGV[1], {{s.name, s.epoch, s.head, s.closed, count, time}})
return 1
