-- Tells which event ids are committed already, and loads what the caller has not. Stands after
-- dedupe.lua.
-- At the ends, and taken off before the rest is read:
-- KEYS: ..., outbox, parked, parking
-- ARGV: ..., the version that the caller holds of what is parked
-- The last of what is returned is {number of outbox entries, version of what is parked, and if
-- that is another one all parked keys}.
--
-- KEYS: sets of ids, or the ids...; state keys..., counter keys...
-- ARGV: number of ids, number of sets or 0, number of state keys, number of counter keys; the ids,
--       packed, if there are sets; as MessagePack, the version the caller holds of each state key...,
--       and counter key...
-- Returns {now in ms, {index of each committed id}, {index, version, value, schema of each newer
--          state}, {index, fields and values of each newer counter}, what is said above};
-- indexes count from 0; a state that does not exist has version 0 and value ''.
local parking, parked, outbox = table.remove(KEYS), table.remove(KEYS), table.remove(KEYS)
local held = table.remove(ARGV)
local parking_now = {redis.call('XLEN', outbox), redis.call('GET', parking) or ''}
if parking_now[2] ~= held then
  parking_now[3] = redis.call('HKEYS', parked)
end

local ids, sets = tonumber(ARGV[1]), tonumber(ARGV[2])
local counters_at = #KEYS - tonumber(ARGV[4]) + 1
local states_at = counters_at - tonumber(ARGV[3])
local versions = cmsgpack.unpack(ARGV[6])
local function is_newer(i)
  local version = redis.call('HGET', KEYS[i], 'v') or '0'
  return tonumber(version) ~= versions[i - states_at + 1] and version
end
local states = {}
for i = states_at, counters_at - 1 do
  local version = is_newer(i)
  if version then
    local value = redis.call('HMGET', KEYS[i], 'd', 's')
    states[#states + 1] = i - states_at
    states[#states + 1] = tonumber(version)
    states[#states + 1] = value[1] or ''
    states[#states + 1] = tonumber(value[2] or '1')
  end
end
local counters = {}
for i = counters_at, #KEYS do
  if is_newer(i) then
    counters[#counters + 1] = i - counters_at
    counters[#counters + 1] = redis.call('HGETALL', KEYS[i])
  end
end
local now = redis.call('TIME')
return {
  now[1] * 1000 + math.floor(now[2] / 1000), marked_ids(1, sets, ARGV[5], ids), states, counters,
  parking_now,
}
