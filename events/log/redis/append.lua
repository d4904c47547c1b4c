-- Appends a group of calls: each call as a whole or not at all, all of them in one step.
--
-- ARGV: the writer's name, the number of its group, the time in ms (0: the server's own), a random number for the
-- epochs of new topics, and the calls, packed: [[topic, name, owner, expect, key, close, count, max_events, max_bytes],
-- ...] each, `false` where there is none; then the events of each append that has some, one a line.
-- It copies the decisions of `events.log.rules`: judge, advance, rehearse (a call of several works on copies, which
-- count only when all went in), may_join, exceeds, trim_bounds.
-- Returns, packed: [time, [[0, [[epoch, first, last, is_duplicate], ...], 0, 0] or [error, [], next offset, index],
-- ...], the news of `publish`].
-- The first write is one that a full memory refuses, so a group is written whole or not at all.
local MERGE_EVENTS, MERGE_BYTES = 256, 65536
local SLACK, TRIM_BLOCKS = 17 / 16, 200
local CONFLICT, CLOSED, WRONG_OWNER = 1, 2, 3
-- Maximum bytes of a group that are told to other processes as they are, which saves each a read; all that is more they
-- read when one of their readers needs it, so that a busy log is not sent to every process.
local CARRIED_BYTES = 2048

local writer, number = ARGV[1], tonumber(ARGV[2])
local receipt = receipt_of(writer, number)
if receipt then return receipt end
local now, seed = now_of(ARGV[3]), tonumber(ARGV[4])
local states, results, made = {}, {}, 0
local tails, rows, order, outcomes = {}, {}, {}, {}
local next_data = 6

local function state_of(name)
  local s = states[name]
  if not s then
    s = load_topic(name)
    states[name] = s
  end
  return s
end

local function copy_of(s)
  local copy = {}
  for field, value in pairs(s) do copy[field] = value end
  return copy
end

local function key_id(s, key)
  return s.name .. '\0' .. s.birth .. '\0' .. key
end

local function result_of(s, key, tried)
  if s.epoch == '' then return nil end
  local id = key_id(s, key)
  if tried[id] then return tried[id] end
  if results[id] == nil then
    results[id] = false
    local text = s.is_kept and call('GET', P .. 'k:' .. id)
    if text then
      local first, last, time = string.match(text, '^(%d+) (%d+) (%-?%d+)$')
      if tonumber(time) > now - KEY_MS then results[id] = {tonumber(first), tonumber(last)} end
    end
  end
  return results[id]
end

-- Does one append on its topic, or on a copy; returns its result, or nil and an error, and then has changed nothing.
local function take(a, s, tried, add)
  local owner, expect, key, close, count = a[3], a[4], a[5], a[6], a[7]
  if owner ~= '' and owner ~= s.owner and s.epoch ~= '' then return nil, WRONG_OWNER end
  if key then
    local earlier = result_of(s, key, tried)
    if earlier then return {s.epoch, earlier[1], earlier[2], true} end
  end
  if s.closed then return nil, CLOSED end
  if expect and expect ~= s.head + 1 then return nil, CONFLICT end
  if s.epoch == '' then
    s.epoch = string.format('%08x', (seed + made) % 4294967296)
    made = made + 1
    s.birth, s.owner, s.updated = s.epoch, owner, now
  end
  local first = s.head + 1
  s.head, s.closed, s.is_changed = s.head + count, close, true
  if count > 0 then
    local size = #a.data - count + 1
    s.total, s.updated, s.last_count = s.total + size, now, count
    s.max_events, s.max_bytes = a[8], a[9]
    add({s.name, first, count, size, a[2], {a.data}})
  end
  if key then tried[key_id(s, key)] = {first, s.head, true} end
  return {s.epoch, first, s.head, false}
end

local function add_row(row)
  local tail = tails[row[1]]
  if tail and tail[5] == row[5] and tail[3] < MERGE_EVENTS and tail[4] + row[4] <= MERGE_BYTES then
    tail[3], tail[4] = tail[3] + row[3], tail[4] + row[4]
    tail[6][#tail[6] + 1] = row[6][1]
  else
    tails[row[1]] = row
    rows[#rows + 1] = row
  end
end

local function do_alone(a)
  local s = state_of(a[1])
  local was_changed = s.is_changed
  local result, problem = take(a, s, results, add_row)
  if problem then return {problem, {}, s.head + 1, 0} end
  if s.is_changed and not was_changed then order[#order + 1] = a[1] end
  return {0, {result}, 0, 0}
end

local function do_together(appends)
  local copies, names, tried, call_rows, done = {}, {}, {}, {}, {}
  local function add(row) call_rows[#call_rows + 1] = row end
  for i, a in ipairs(appends) do
    local s = copies[a[1]]
    if not s then
      s = copy_of(state_of(a[1]))
      copies[a[1]] = s
      names[#names + 1] = a[1]
    end
    local result, problem = take(a, s, tried, add)
    if problem then return {problem, {}, s.head + 1, i - 1} end
    done[#done + 1] = result
  end
  for _, name in ipairs(names) do
    if copies[name].is_changed and not states[name].is_changed then order[#order + 1] = name end
    states[name] = copies[name]
  end
  for id, result in pairs(tried) do results[id] = result end
  for _, row in ipairs(call_rows) do add_row(row) end
  return {0, done, 0, 0}
end

for i, appends in ipairs(cmsgpack.unpack(ARGV[5])) do
  for _, a in ipairs(appends) do
    if a[7] > 0 then
      a.data = ARGV[next_data]
      next_data = next_data + 1
    end
  end
  outcomes[i] = #appends == 1 and do_alone(appends[1]) or do_together(appends)
end
if #order == 0 then return cmsgpack.pack({now, outcomes, {}}) end

local bytes = 0
for _, row in ipairs(rows) do
  local s, data = states[row[1]], table.concat(row[6], '\n')
  call('XADD', P .. 'b:' .. row[1], string.format('%.0f-%.0f', row[2] + row[3] - 1, row[3]), 't', now, 'n', row[5], 'd',
    data)
  s.last_count, s.blocks = row[3], (s.blocks or 0) + 1
  s.last_name, s.last_data, bytes = row[5], data, bytes + #data
end
local news, carried = {}, {}
for i, name in ipairs(order) do
  local s = states[name]
  local max_events, max_bytes = s.max_events, s.max_bytes
  if (max_events and s.head - s.oldest + 1 > max_events * SLACK) or (max_bytes and s.total - s.base > max_bytes * SLACK) then
    trim_topic(s, max_events and s.head - max_events or -1, max_bytes and s.total - max_bytes or -1, -1, TRIM_BLOCKS)
  end
  save_topic(s)
  news[i] = {name, s.epoch, s.head, s.closed, s.last_count or 0, now}
  if s.blocks == 1 and bytes <= CARRIED_BYTES then
    news[i][7], news[i][8] = s.last_name, #s.last_data
    carried[#carried + 1] = s.last_data
  end
end
for id, result in pairs(results) do
  if result and result[3] then
    call('SET', P .. 'k:' .. id, string.format('%.0f %.0f %.0f', result[1], result[2], now), 'PX', KEY_MS)
  end
end
publish(writer, news, table.concat(carried))
return keep_receipt(writer, number, cmsgpack.pack({now, outcomes, news}))
