-- Tells which event ids are committed already, and loads the states that the caller has not.
-- KEYS: 3 seen buckets, state keys..., counter keys...
-- ARGV: number of ids, number of state keys, ids..., the version the caller holds of each state
--       key..., and of each counter key...
-- Returns {now in ms, {index of each committed id}, {index, version, value, schema of each newer state},
--          {index, fields and values of each newer counter}};
-- indexes count from 0; a state that does not exist has version 0 and value ''.
local ids, states_end = tonumber(ARGV[1]), 3 + tonumber(ARGV[2])
local seen = {}
for first = 1, ids, 4000 do
  local last = math.min(first + 3999, ids)
  for bucket = 1, 3 do
    if redis.call('EXISTS', KEYS[bucket]) == 1 then
      local found = redis.call('SMISMEMBER', KEYS[bucket], unpack(ARGV, first + 2, last + 2))
      for i = 1, #found do
        if found[i] == 1 then
          seen[#seen + 1] = first + i - 2
        end
      end
    end
  end
end
local states = {}
for i = 4, states_end do
  local version = redis.call('HGET', KEYS[i], 'v') or '0'
  if version ~= ARGV[ids + i - 1] then
    states[#states + 1] = i - 4
    states[#states + 1] = tonumber(version)
    states[#states + 1] = redis.call('HGET', KEYS[i], 'd') or ''
    states[#states + 1] = tonumber(redis.call('HGET', KEYS[i], 's') or '1')
  end
end
local counters = {}
for i = states_end + 1, #KEYS do
  if (redis.call('HGET', KEYS[i], 'v') or '0') ~= ARGV[ids + i - 1] then
    counters[#counters + 1] = i - states_end - 1
    counters[#counters + 1] = redis.call('HGETALL', KEYS[i])
  end
end
local now = redis.call('TIME')
return {now[1] * 1000 + math.floor(now[2] / 1000), seen, states, counters}
