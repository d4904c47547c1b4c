-- Takes over blocks of another log's topic, when it is as its caller has read it; returns whether it was.
-- ARGV: writer, topic, epoch, owner, oldest, head as it was read, whether to close it, the time in ms (0: the server's
-- own), the blocks as lines 'last count time name', then the events of each, one a line.
local writer, name, epoch = ARGV[1], ARGV[2], ARGV[3]
local oldest, head = tonumber(ARGV[5]), tonumber(ARGV[6])
local s = load_topic(name)
if s.epoch == '' then
  s.epoch, s.birth, s.owner = epoch, epoch, ARGV[4]
  s.oldest, s.head, s.updated = oldest, oldest - 1, now_of(ARGV[8])
end
if s.epoch ~= epoch or s.head ~= head then return 0 end
local at, last_count = 10, 0
for last, count, time, block_name in string.gmatch(ARGV[9], '(%d+) (%d+) (%-?%d+) ([^\n]*)\n') do
  local data = ARGV[at]
  at = at + 1
  call('XADD', P .. 'b:' .. name, last .. '-' .. count, 't', time, 'n', block_name, 'd', data)
  s.head, s.updated, last_count = tonumber(last), tonumber(time), tonumber(count)
  s.total = s.total + #data - last_count + 1
end
s.closed = s.closed or ARGV[7] == '1'
save_topic(s)
publish(writer, {{name, s.epoch, s.head, s.closed, last_count, s.updated}})
return 1
