-- Lists topics of one index, last changed first.
--
-- ARGV: the index ('n': by name, which comes unsorted), prefix, owner, whether any owner will do ('1'), whether only
-- open topics count ('1'), time in ms before which they changed ('': any), rank to begin at, maximum topics, maximum
-- entries looked at. Returns, packed: [rank to go on at (-1: the end), [[topic, owner, epoch, head, updated, closed]]].
local index, prefix, owner, any_owner, open_only = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5] == '1'
local before, rank, limit, left = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local rows = {}
while left > 0 and #rows < limit do
  local portion = math.min(left, 200)
  local names
  if index == 'n' then
    names = call('ZRANGEBYLEX', P .. 'n', '[' .. prefix, '(' .. prefix .. '\255', 'LIMIT', rank, portion)
  else
    local from = before and string.format('(%.0f', -before) or '-inf'
    names = call('ZRANGEBYSCORE', P .. index, from, '+inf', 'LIMIT', rank, portion)
  end
  for _, name in ipairs(names) do
    if #rows == limit then break end
    rank = rank + 1
    if string.sub(name, 1, #prefix) == prefix then
      local s = load_topic(name)
      if s.epoch ~= '' and (any_owner or s.owner == owner) and not (open_only and s.closed)
        and not (before and s.updated >= before) then
        rows[#rows + 1] = {name, s.owner, s.epoch, s.head, s.updated, s.closed}
      end
    end
  end
  left = left - #names
  if #names < portion then
    if #rows < limit then rank = -1 end
    break
  end
end
return cmsgpack.pack({rank, rows})
