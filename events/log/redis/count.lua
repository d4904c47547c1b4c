-- Counts events by name. ARGV: topic, offset after which, offset up to which, maximum blocks.
-- Returns the offset to go on after (-1: all were counted), then name, count, name, count ...
local from, upto, counts, names = tonumber(ARGV[2]) + 1, tonumber(ARGV[3]), {}, {}
local head = tonumber(call('HGET', P .. 't:' .. ARGV[1], 'head') or '0')
upto = math.min(upto, head)
local left = tonumber(ARGV[4])
while from <= upto and left > 0 do
  local portion = math.min(left, 50)
  local entries = call('XRANGE', P .. 'b:' .. ARGV[1], string.format('%.0f', from), '+', 'COUNT', portion)
  for _, entry in ipairs(entries) do
    local last, count, _, name = block_of(entry)
    local number = math.min(last, upto) - math.max(last - count + 1, from) + 1
    if number > 0 then
      if not counts[name] then names[#names + 1] = name end
      counts[name] = (counts[name] or 0) + number
    end
    from = last + 1
  end
  left = left - #entries
  if #entries < portion then from = upto + 1 end
end
local reply = {from > upto and '-1' or string.format('%.0f', from - 1)}
for _, name in ipairs(names) do
  reply[#reply + 1] = name
  reply[#reply + 1] = string.format('%.0f', counts[name])
end
return reply
