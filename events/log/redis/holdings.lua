-- Sums up the topics of one index, some at a time.
--
-- ARGV: the index, rank to begin at, maximum topics. Returns, packed: [topics, bytes kept].
local names = call('ZRANGE', P .. ARGV[1], ARGV[2], ARGV[2] + ARGV[3] - 1)
local bytes = 0
for _, name in ipairs(names) do
  local h = call('HMGET', P .. 't:' .. name, 'total', 'base')
  if h[1] then bytes = bytes + tonumber(h[1]) - tonumber(h[2]) end
end
return cmsgpack.pack({#names, bytes})
