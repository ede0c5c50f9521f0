-- Commits one batch, all or nothing: everything is checked before the first write.
-- Stands after dedupe.lua.
-- KEYS: positions, outbox, dead letters; the set of ids to mark in, other sets..., or the ids...;
--       state keys..., for each counter: its key, keys of HyperLogLogs...;
--       and if it is about timers: timers, by event time, by the wall clock;
--       and if it minds what is parked: list of the key that is redriven if one is, list of each
--       key that is parked or goes on to be, redrive, parked, parking
-- ARGV: all that is no binary or long text, as MessagePack, since a client packs one argument with
--       a thousand parts in a tenth of the time of a thousand arguments; the ids, packed, if there
--       are sets; then the values that the first argument says of: new states, digests of members,
--       payloads of the outbox, dead letters' fields, timers' payloads.
-- The first argument is {shard field, epoch, position the batch starts from, position it reaches,
--       ms to keep the marks, number of ids, number of sets or 0, states, counters, outbox, shapes,
--       dead letters, timers or false, parking or false}:
--       states: for each key four numbers: version it was read at, its next version or 0 if it is
--         only read, ms to keep it or 0, new schema or 0 if it stays; a value for each that changes;
--       counters: {the next version of all, for each {ms to keep it or 0, number of HyperLogLogs,
--         {for each change that is no addition {its kind, field, operand}} or false, then what is
--         added: field, operand, field, operand...}}; the operand of "distinct" is a value, and
--         belongs to a HyperLogLog, in their order; what more of these there are is only kept;
--       outbox: for each entry its id, type, key and cause; its payload is a value;
--       shapes: the names of the fields of a dead letter, for each set of them that there is;
--       dead letters: for each the place of its shape; its fields are values;
--       timers: {event clock or '', for each its name, ms, and 1 for event time or 2 for the wall
--         clock with its payload as a value, or 0 to remove it};
--       parking: {version of what is parked that the caller knows, its next version, for each key to
--         park {key, records...}, and {} or {key that is redriven, number of its oldest records that
--         are done with, number of all, what the next one became or ''}}
-- Returns {'OK', {version before of each counter}, {members of each "distinct"}}, if it is about
--         timers with the next by event time or '', the next by the wall clock or '', event clock
--         or '', number of timers; {'FENCED', newer epoch}, {'MOVED', stored position or ''},
--         {'PARKING', version of what is parked, number of records of the key that is redriven,
--         all parked keys} if that is not what the caller knows,
--         {'DUPLICATE', index of each id...} or {'CONFLICT', index of each state key...}.
local shard, own_epoch, start, reached, keep_marks, ids, sets, states, counters, outbox, shapes,
  dead_letters, timers, parking = unpack(cmsgpack.unpack(ARGV[1]), 1, 14)
local packed, next_value = ARGV[2], 3

local queue, lists = nil, {}
local version_key, parked_key, redrive_key
if parking then
  version_key, parked_key, redrive_key = table.remove(KEYS), table.remove(KEYS), table.remove(KEYS)
  for i = #parking[3], 1, -1 do
    lists[i] = table.remove(KEYS)
  end
  queue = parking[4][1] and table.remove(KEYS)
end

local epoch, position = 0, ''
local stored = redis.call('HGET', KEYS[1], shard)
if stored then
  local bar = string.find(stored, '|', 1, true)
  epoch = tonumber(string.sub(stored, 1, bar - 1))
  position = string.sub(stored, bar + 1)
end
if epoch > tonumber(own_epoch) then
  return {'FENCED', epoch}
end
if position ~= start then
  return {'MOVED', position}
end

if parking then
  local version = redis.call('GET', version_key) or ''
  local waiting = queue and redis.call('LLEN', queue) or 0
  if version ~= parking[1] or (queue and waiting ~= parking[4][3]) then
    return {'PARKING', version, waiting, redis.call('HKEYS', parked_key)}
  end
end

local refused = marked_ids(4, sets, packed, ids)
if #refused > 0 then
  table.insert(refused, 1, 'DUPLICATE')
  return refused
end

local first_state = 4 + (sets > 0 and sets or ids)
local first_counter = first_state + #states / 4
refused = {'CONFLICT'}
for i = 0, #states / 4 - 1 do
  if tonumber(redis.call('HGET', KEYS[first_state + i], 'v') or 0) ~= states[4 * i + 1] then
    refused[#refused + 1] = i
  end
end
if #refused > 1 then
  return refused
end

local function is_whole(text)
  return string.find(text, '^-?%d+$') ~= nil
end

-- The text of a whole number, in full: left to others it may be rounded, or have an exponent. Nearly
-- all keys have the same version and the same time to live.
local texts = {}
local function digits(number)
  local text = texts[number]
  if not text then
    text = string.format('%.0f', number)
    texts[number] = text
  end
  return text
end

-- Takes the next of the values.
local function take()
  next_value = next_value + 1
  return ARGV[next_value - 1]
end

-- Nothing below may fail, so what it needs of the counters is made sure of here.
local function require_number(key, field, value)
  local number = tonumber(value)
  -- Bounds that no sum of what callers may add passes: 2^62, and what doubles can hold.
  if not number or number ~= number or math.abs(number) > 1e300
      or (math.abs(number) > 4.6e18 and is_whole(value)) then
    error(key .. ' field ' .. field .. ' is no number that can be counted on; mend or delete it')
  end
end

-- Lua's stack does not take more values at once by much.
local AT_ONCE = 4000

-- Returns the version of a counter, 0 if there is none, and the numbers of what is added to, as text
-- or false.
local function load_counter(key, counter)
  local held
  if #counter == 5 then
    held = redis.call('HMGET', key, 'v', counter[4])
  else
    held = {redis.call('HGET', key, 'v')}
    for first = 4, #counter, 2 * AT_ONCE do
      local fields = {}
      for i = first, math.min(first + 2 * AT_ONCE, #counter) - 1, 2 do
        fields[#fields + 1] = counter[i]
      end
      for _, value in ipairs(redis.call('HMGET', key, unpack(fields))) do
        held[#held + 1] = value
      end
    end
  end
  held[1] = tonumber(held[1] or 0)
  if not held[1] then
    error(key .. ' is a hash, but no counter; delete it')
  end
  for i = 2, #held do
    if held[i] then
      require_number(key, counter[2 * i], held[i])
    end
  end
  for _, change in ipairs(counter[3] or {}) do
    if change[1] == 'min' or change[1] == 'max' then
      require_number(key, change[2], redis.call('HGET', key, change[2]) or '0')
    end
  end
  return held
end

local key_at = first_counter
local loaded = {}
for i = 2, #counters do
  local counter = counters[i]
  loaded[i] = load_counter(KEYS[key_at], counter)
  for sketch = key_at + 1, key_at + counter[2] do
    redis.call('PFCOUNT', KEYS[sketch])
  end
  key_at = key_at + 1 + counter[2]
end
if #outbox > 0 then
  redis.call('XLEN', KEYS[2])
end
if #dead_letters > 0 then
  redis.call('XLEN', KEYS[3])
end
if timers then
  redis.call('HLEN', KEYS[key_at])
  redis.call('ZCARD', KEYS[key_at + 1])
  redis.call('ZCARD', KEYS[key_at + 2])
end

mark_ids(4, sets, packed, ids, digits(keep_marks))
for i = 0, #states / 4 - 1 do
  local key, version, keep, schema =
    KEYS[first_state + i], states[4 * i + 2], states[4 * i + 3], states[4 * i + 4]
  if version ~= 0 then
    redis.call('HSET', key, 'v', digits(version), 'd', take())
    if schema == 1 then
      redis.call('HDEL', key, 's')
    elseif schema ~= 0 then
      redis.call('HSET', key, 's', digits(schema))
    end
    if keep ~= 0 then
      redis.call('PEXPIRE', key, digits(keep))
    end
  end
end

-- The shortest text that reads back as the same double; with a '.' or 'e', so that it stays one.
local function text_of(number)
  local text
  for digits = 15, 17 do
    text = string.format('%.' .. digits .. 'g', number)
    if tonumber(text) == number then
      break
    end
  end
  return string.find(text, '[.e]') and text or text .. '.0'
end

local EXACT = 2 ^ 53

-- Returns the sum of two numbers as text; nil where only Redis can add them exactly.
local function sum_of(value, operand)
  local left, right = tonumber(value), tonumber(operand)
  if not (is_whole(value) and is_whole(operand)) then
    -- Not HINCRBYFLOAT, which computes in long double: callers add doubles to their copies.
    return text_of(left + right)
  end
  local sum = left + right
  if math.abs(left) <= EXACT and math.abs(right) <= EXACT and math.abs(sum) <= EXACT then
    return digits(sum)
  end
end

-- Writes the version, and what comes of what is held and what is added.
local function add_all(key, version, held, counter)
  if #counter == 5 and not held[2] and is_whole(counter[5]) then
    redis.call('HSET', key, 'v', version, counter[4], counter[5])
    return
  end
  local pairs_of = {'v', version}
  for i = 4, #counter, 2 do
    local field, operand = counter[i], counter[i + 1]
    local sum = sum_of(held[i / 2] or '0', operand)
    if sum then
      pairs_of[#pairs_of + 1] = field
      pairs_of[#pairs_of + 1] = sum
    else
      redis.call('HINCRBY', key, field, operand)
    end
  end
  for first = 1, #pairs_of, AT_ONCE do
    redis.call('HSET', key, unpack(pairs_of, first, math.min(first + AT_ONCE - 1, #pairs_of)))
  end
end

local function add_to_sketch(sketch, digests)
  local members = {}
  for i = 1, #digests, 8 do
    members[#members + 1] = string.sub(digests, i, i + 7)
  end
  for first = 1, #members, 4000 do
    redis.call('PFADD', sketch, unpack(members, first, math.min(first + 3999, #members)))
  end
end

-- Returns how many members there are; negative if that is an estimate.
local function add_members(key, field, digests, sketch)
  local estimate = 'h' .. string.sub(field, 2)
  if redis.call('HEXISTS', key, estimate) == 0 then
    local held = redis.call('HGET', key, field) or ''
    local known, new = {}, {held}
    for i = 1, #held, 8 do
      known[string.sub(held, i, i + 7)] = true
    end
    for i = 1, #digests, 8 do
      local digest = string.sub(digests, i, i + 7)
      if not known[digest] then
        known[digest] = true
        new[#new + 1] = digest
      end
    end
    digests = table.concat(new)
    if #digests <= 8 * 128 then
      redis.call('HSET', key, field, digests)
      return #digests / 8
    end
    redis.call('DEL', sketch)
    redis.call('HDEL', key, field)
  end
  add_to_sketch(sketch, digests)
  local count = redis.call('PFCOUNT', sketch)
  redis.call('HSET', key, estimate, count)
  return -count
end

-- Makes the changes that are no additions.
local function change_all(key_at, counter, held, counted)
  local key, sketch_at, forgotten = KEYS[key_at], key_at, {}
  for _, change in ipairs(counter[3]) do
    local kind, field, operand = unpack(change)
    if kind == 'distinct' then
      sketch_at = sketch_at + 1
      counted[#counted + 1] = add_members(key, field, take(), KEYS[sketch_at])
    elseif kind == 'forget' then
      redis.call('HDEL', key, field)
      forgotten[field] = true
    else
      local value, number = redis.call('HGET', key, field), tonumber(operand)
      if not value or (kind == 'min' and number < tonumber(value))
          or (kind == 'max' and number > tonumber(value)) then
        redis.call('HSET', key, field, operand)
      end
    end
  end
  for i = 2, #held do
    if forgotten[counter[2 * i]] then
      held[i] = false
    end
  end
end

local versions, counted = {}, {}
local counters_version = digits(counters[1])
key_at = first_counter
for i = 2, #counters do
  local counter, held, key = counters[i], loaded[i], KEYS[key_at]
  versions[i - 1] = held[1]
  if counter[3] then
    change_all(key_at, counter, held, counted)
  end
  add_all(key, counters_version, held, counter)
  if counter[1] ~= 0 then
    local keep = digits(counter[1])
    for kept = key_at, key_at + counter[2] do
      redis.call('PEXPIRE', KEYS[kept], keep)
    end
  end
  key_at = key_at + 1 + counter[2]
end

for i = 1, #outbox, 4 do
  redis.call('XADD', KEYS[2], '*', 'id', outbox[i], 'type', outbox[i + 1],
    'key', outbox[i + 2], 'cause', outbox[i + 3], 'data', take())
end

-- Each shape as field, value, field, value..., filled in for one letter after the other.
local forms = {}
for i, names in ipairs(shapes) do
  forms[i] = {}
  for _, name in ipairs(names) do
    table.insert(forms[i], name)
    table.insert(forms[i], '')
  end
end
for _, shape in ipairs(dead_letters) do
  local form = forms[shape]
  for i = 2, #form, 2 do
    form[i] = take()
  end
  redis.call('XADD', KEYS[3], '*', unpack(form))
end
if parking then
  local changed = false
  for i, park in ipairs(parking[3]) do
    for first = 2, #park, 4000 do
      redis.call('RPUSH', lists[i], unpack(park, first, math.min(first + 3999, #park)))
    end
    if redis.call('HINCRBY', parked_key, park[1], #park - 1) == #park - 1 then
      changed = true
    end
  end
  if queue then
    local key, done, all, head = unpack(parking[4])
    redis.call('LTRIM', queue, done, -1)
    if done == all then
      redis.call('HDEL', parked_key, key)
      redis.call('SREM', redrive_key, key)
      changed = true
    else
      redis.call('HINCRBY', parked_key, key, -done)
      if head ~= '' then
        redis.call('LSET', queue, 0, head)
        redis.call('SREM', redrive_key, key)
      end
    end
  end
  if changed then
    redis.call('SET', version_key, parking[2])
  end
end
redis.call('HSET', KEYS[1], shard, own_epoch .. '|' .. reached)
if not timers then
  return {'OK', versions, counted}
end

if timers[1] ~= '' then
  redis.call('HSET', KEYS[key_at], 'clock', digits(timers[1]))
end
for i = 2, #timers, 3 do
  local name, at, clock = timers[i], timers[i + 1], timers[i + 2]
  redis.call('ZREM', KEYS[key_at + 1], name)
  redis.call('ZREM', KEYS[key_at + 2], name)
  if clock == 0 then
    redis.call('HDEL', KEYS[key_at], name)
  else
    redis.call('ZADD', KEYS[key_at + clock], digits(at), name)
    redis.call('HSET', KEYS[key_at], name, take())
  end
end
return {
  'OK',
  versions,
  counted,
  redis.call('ZRANGE', KEYS[key_at + 1], 0, 0, 'WITHSCORES')[2] or '',
  redis.call('ZRANGE', KEYS[key_at + 2], 0, 0, 'WITHSCORES')[2] or '',
  redis.call('HGET', KEYS[key_at], 'clock') or '',
  redis.call('ZCARD', KEYS[key_at + 1]) + redis.call('ZCARD', KEYS[key_at + 2]),
}
