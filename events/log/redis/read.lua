-- Reads a topic after an offset. ARGV: topic, offset, maximum events, maximum bytes.
--
-- Returns nothing when there is no such topic; else its epoch, owner, oldest, head and closed, and its blocks as two
-- texts: a line 'first count time name' for each, and their events, one a line. The last block may exceed the limits.
local h = call('HMGET', P .. 't:' .. ARGV[1], 'epoch', 'owner', 'oldest', 'head', 'closed')
if not h[1] then return false end
local head = tonumber(h[4])
local from, max_events, max_bytes = tonumber(ARGV[2]) + 1, tonumber(ARGV[3]), tonumber(ARGV[4])
local heads, texts, events, bytes, portion = {}, {}, 0, 0, 4
while from <= head and (#heads == 0 or (events < max_events and bytes < max_bytes)) do
  local entries = call('XRANGE', P .. 'b:' .. ARGV[1], string.format('%.0f', from), '+', 'COUNT', portion)
  for _, entry in ipairs(entries) do
    local last, count, time, name, data, size = block_of(entry)
    if #heads > 0 and (events >= max_events or bytes >= max_bytes) then break end
    heads[#heads + 1] = string.format('%.0f %.0f %.0f ', last - count + 1, count, time) .. name
    texts[#texts + 1] = data
    if #heads > 1 or last - count + 1 == from then
      events, bytes = events + count, bytes + size
    else -- it begins before the offset, and nobody knows how many of its bytes do
      events = events + last - from + 1
    end
    from = last + 1
  end
  if #entries < portion then break end
  portion = math.min(portion * 2, 64)
end
return {h[1], h[2], h[3], h[4], h[5], #heads, table.concat(heads, '\n'), table.concat(texts, '\n')}
