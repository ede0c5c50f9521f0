-- Commits one batch, all or nothing: everything is checked before the first write.
-- Stands after dedupe.lua.
-- KEYS: positions, outbox, dead letters; the set of ids to mark in, other sets..., or the ids...;
--       state keys..., for each counter: its key, keys of HyperLogLogs...;
--       and if it is about timers: timers, by event time, by the wall clock
-- ARGV: shard field, epoch, position the batch starts from, position it reaches,
--       ms to keep the marks, number of ids, number of state keys, number of outbox entries,
--       number of dead letters, number of counters, number of sets or 0; the ids, packed, if there are sets;
--       for each state key: version it was read at, its next version, new value or '', ms to keep it
--       or 0, new schema or '' if it stays;
--       for each counter: its next version, ms to keep it or 0, number of HyperLogLogs,
--       number of changes, each as kind, field, operand;
--       for each outbox entry and then each dead letter: number of field and value strings, those;
--       and if it is about timers: their number, event clock or '', and for each its name, ms,
--       1 for event time or 2 for the wall clock, and its payload, or '' to remove it
-- At the ends, and taken off before the rest is read:
-- KEYS: ..., and if it minds what is parked: list of the key that is redriven if one is, list of
--       each key that is parked or goes on to be, redrive, parked, parking
-- ARGV: ..., '' or as MessagePack: version of what is parked that the caller knows, its next
--       version; for each key to park {key, records...}; and {} or {key that is redriven, number of
--       its oldest records that are done with, number of all, what the next one became or ''}
-- Returns {'OK', for each counter {version before, members of each "distinct"}}, if it is about
--         timers with the next by event time or '', the next by the wall clock or '', event clock
--         or '', number of timers; {'FENCED', newer epoch}, {'MOVED', stored position or ''},
--         {'PARKING', version of what is parked, number of records of the key that is redriven,
--         all parked keys} if that is not what the caller knows,
--         {'DUPLICATE', index of each id...} or {'CONFLICT', index of each state key...}.
local parking, queue, lists = table.remove(ARGV), nil, {}
local version_key, parked_key, redrive_key
if parking ~= '' then
  parking = cmsgpack.unpack(parking)
  version_key, parked_key, redrive_key = table.remove(KEYS), table.remove(KEYS), table.remove(KEYS)
  for i = #parking[3], 1, -1 do
    lists[i] = table.remove(KEYS)
  end
  queue = parking[4][1] and table.remove(KEYS)
end

local epoch, position = 0, ''
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then
  local bar = string.find(stored, '|', 1, true)
  epoch = tonumber(string.sub(stored, 1, bar - 1))
  position = string.sub(stored, bar + 1)
end
if epoch > tonumber(ARGV[2]) then
  return {'FENCED', epoch}
end
if position ~= ARGV[3] then
  return {'MOVED', position}
end

if parking ~= '' then
  local version = redis.call('GET', version_key) or ''
  local waiting = queue and redis.call('LLEN', queue) or 0
  if version ~= parking[1] or (queue and waiting ~= parking[4][3]) then
    return {'PARKING', version, waiting, redis.call('HKEYS', parked_key)}
  end
end

local ids, states = tonumber(ARGV[6]), tonumber(ARGV[7])
local entries, counters = {tonumber(ARGV[8]), tonumber(ARGV[9])}, tonumber(ARGV[10])
local sets = tonumber(ARGV[11])
local at = 12

local packed = ARGV[at]
at = at + 1

local refused = marked_ids(4, sets, packed, ids)
if #refused > 0 then
  table.insert(refused, 1, 'DUPLICATE')
  return refused
end

local states_at, first_state = at, 4 + (sets > 0 and sets or ids)
refused = {'CONFLICT'}
for i = 0, states - 1 do
  if (redis.call('HGET', KEYS[first_state + i], 'v') or '0') ~= ARGV[states_at + 5 * i] then
    refused[#refused + 1] = i
  end
end
if #refused > 1 then
  return refused
end

local function is_whole(text)
  return string.find(text, '^-?%d+$') ~= nil
end

-- Nothing below may fail, so what it needs of the counters is made sure of here.
local function require_counter(key, changes, first)
  local version = redis.call('HGET', key, 'v')
  if version and not is_whole(version) then
    error(key .. ' is a hash, but no counter; delete it')
  end
  for i = first, first + 3 * changes - 1, 3 do
    local kind, field = ARGV[i], ARGV[i + 1]
    local value = (kind == 'add' or kind == 'min' or kind == 'max')
      and redis.call('HGET', key, field)
    local number = tonumber(value or '0')
    -- Bounds that no sum of what callers may add passes: 2^62, and what doubles can hold.
    if not number or number ~= number or math.abs(number) > 1e300
        or (is_whole(value or '0') and math.abs(number) > 4.6e18) then
      error(key .. ' field ' .. field .. ' is no number that can be counted on; mend or delete it')
    end
  end
end

local counters_at, key_at = states_at + 5 * states, first_state + states
do
  local own = counters_at
  for _ = 1, counters do
    local sketches, changes = tonumber(ARGV[own + 2]), tonumber(ARGV[own + 3])
    require_counter(KEYS[key_at], changes, own + 4)
    for i = key_at + 1, key_at + sketches do
      redis.call('PFCOUNT', KEYS[i])
    end
    own = own + 4 + 3 * changes
    key_at = key_at + 1 + sketches
  end
end
for target = 1, 2 do
  if entries[target] > 0 then
    redis.call('XLEN', KEYS[1 + target])
  end
end
if key_at < #KEYS then
  redis.call('HLEN', KEYS[key_at])
  redis.call('ZCARD', KEYS[key_at + 1])
  redis.call('ZCARD', KEYS[key_at + 2])
end

mark_ids(4, sets, packed, ids, ARGV[5])
for i = 0, states - 1 do
  local own = states_at + 5 * i
  if ARGV[own + 2] ~= '' then
    redis.call('HSET', KEYS[first_state + i], 'v', ARGV[own + 1], 'd', ARGV[own + 2])
    if ARGV[own + 4] == '1' then
      redis.call('HDEL', KEYS[first_state + i], 's')
    elseif ARGV[own + 4] ~= '' then
      redis.call('HSET', KEYS[first_state + i], 's', ARGV[own + 4])
    end
    if ARGV[own + 3] ~= '0' then
      redis.call('PEXPIRE', KEYS[first_state + i], ARGV[own + 3])
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

local function add(key, field, operand)
  local value = redis.call('HGET', key, field) or '0'
  if is_whole(value) and is_whole(operand) then
    redis.call('HINCRBY', key, field, operand)
  else
    -- Not HINCRBYFLOAT, which computes in long double: callers add doubles to their copies.
    redis.call('HSET', key, field, text_of(tonumber(value) + tonumber(operand)))
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

local counted = {}
at, key_at = counters_at, first_state + states
for _ = 1, counters do
  local key, keep, sketches, changes = KEYS[key_at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local own = {tonumber(redis.call('HGET', key, 'v') or '0')}
  redis.call('HSET', key, 'v', ARGV[at])
  at = at + 4
  for _ = 1, changes do
    local kind, field, operand = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    if kind == 'add' then
      add(key, field, operand)
    elseif kind == 'distinct' then
      key_at = key_at + 1
      own[#own + 1] = add_members(key, field, operand, KEYS[key_at])
    elseif kind == 'touch' then
      key_at = key_at + 1
    elseif kind == 'forget' then
      redis.call('HDEL', key, field)
    else
      local value, number = redis.call('HGET', key, field), tonumber(operand)
      if not value or (kind == 'min' and number < tonumber(value))
          or (kind == 'max' and number > tonumber(value)) then
        redis.call('HSET', key, field, operand)
      end
    end
    at = at + 3
  end
  key_at = key_at + 1
  if keep ~= '0' then
    for i = key_at - 1 - sketches, key_at - 1 do
      redis.call('PEXPIRE', KEYS[i], keep)
    end
  end
  counted[#counted + 1] = own
end
for target = 1, 2 do
  for _ = 1, entries[target] do
    local strings = tonumber(ARGV[at])
    redis.call('XADD', KEYS[1 + target], '*', unpack(ARGV, at + 1, at + strings))
    at = at + 1 + strings
  end
end
if parking ~= '' then
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
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '|' .. ARGV[4])
if not ARGV[at] then
  return {'OK', counted}
end

local timers = #KEYS - 2
if ARGV[at + 1] ~= '' then
  redis.call('HSET', KEYS[timers], 'clock', ARGV[at + 1])
end
for own = at + 2, at + 4 * tonumber(ARGV[at]), 4 do
  local name = ARGV[own]
  redis.call('ZREM', KEYS[timers + 1], name)
  redis.call('ZREM', KEYS[timers + 2], name)
  if ARGV[own + 3] == '' then
    redis.call('HDEL', KEYS[timers], name)
  else
    redis.call('ZADD', KEYS[timers + tonumber(ARGV[own + 2])], ARGV[own + 1], name)
    redis.call('HSET', KEYS[timers], name, ARGV[own + 3])
  end
end
return {
  'OK',
  counted,
  redis.call('ZRANGE', KEYS[timers + 1], 0, 0, 'WITHSCORES')[2] or '',
  redis.call('ZRANGE', KEYS[timers + 2], 0, 0, 'WITHSCORES')[2] or '',
  redis.call('HGET', KEYS[timers], 'clock') or '',
  redis.call('ZCARD', KEYS[timers + 1]) + redis.call('ZCARD', KEYS[timers + 2]),
}
