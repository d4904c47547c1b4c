-- Lists topics of one index, those of the last second first.
--
-- ARGV: the index ('n': by name, which comes unsorted), prefix, owner, whether any owner will do ('1'), whether only
-- open topics count ('1'), time in ms before which they changed ('': any), rank to begin at, topics wanted, maximum
-- entries looked at, and the second that is the last one wanted ('': not known yet). The second in which enough topics
-- are found is listed whole, because its topics come by name.
-- Returns, packed: [rank to go on at (-1: the end), [[topic, owner, epoch, head, updated, closed]], last second or -1].
local index, prefix, owner, any_owner, open_only = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5] == '1'
local before, rank, wanted, left = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local last_second = tonumber(ARGV[10])
local rows, is_done = {}, false

local function next_names(portion)
  if index == 'n' then
    return call('ZRANGEBYLEX', P .. 'n', '[' .. prefix, '(' .. prefix .. '\255', 'LIMIT', rank, portion)
  end
  local from = before and string.format('%.0f', -second_of(before - 1)) or '-inf'
  return call('ZRANGEBYSCORE', P .. index, from, '+inf', 'LIMIT', rank, portion)
end

local function is_wanted(s)
  return s.epoch ~= '' and (any_owner or s.owner == owner) and not (open_only and s.closed)
    and not (before and s.updated >= before)
end

while left > 0 and not is_done do
  local portion = math.min(left, 200)
  local names = next_names(portion)
  for _, name in ipairs(names) do
    rank = rank + 1
    if string.sub(name, 1, #prefix) == prefix then
      local s = load_topic(name)
      is_done = last_second and second_of(s.updated) ~= last_second
      if is_done then break end
      if is_wanted(s) then
        rows[#rows + 1] = {name, s.owner, s.epoch, s.head, s.updated, s.closed}
        if #rows >= wanted and index ~= 'n' then last_second = second_of(s.updated) end
      end
    end
  end
  left = left - #names
  is_done = is_done or #names < portion
end
return cmsgpack.pack({is_done and -1 or rank, rows, last_second or -1})
