-- Commits one batch, all or nothing: everything is checked before the first write.
-- KEYS: positions, outbox, dead letters, seen bucket to mark in, 3 other seen buckets,
--       state keys...; and if it is about timers: timers, by event time, by the wall clock
-- ARGV: shard field, epoch, position the batch starts from, position it reaches,
--       ms to keep the seen bucket, number of ids, number of state keys, number of outbox entries,
--       number of dead letters; ids...;
--       for each state key: version it was read at, its next version, new value or '', ms to keep it
--       or 0;
--       for each outbox entry and then each dead letter: number of field and value strings, those;
--       and if it is about timers: their number, event clock or '', and for each its name, ms,
--       1 for event time or 2 for the wall clock, and its payload, or '' to remove it
-- Returns {'OK'}, if it is about timers with the next by event time or '', the next by the wall
--         clock or '', event clock or '', number of timers; {'FENCED', newer epoch}, {'MOVED', stored position or ''},
--         {'DUPLICATE', index of each id...} or {'CONFLICT', index of each state key...}.
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

local ids, states = tonumber(ARGV[6]), tonumber(ARGV[7])
local entries = {tonumber(ARGV[8]), tonumber(ARGV[9])}
local at = 10

local refused = {'DUPLICATE'}
for first = at, at + ids - 1, 4000 do
  local last = math.min(first + 3999, at + ids - 1)
  for bucket = 4, 7 do
    if redis.call('EXISTS', KEYS[bucket]) == 1 then
      local found = redis.call('SMISMEMBER', KEYS[bucket], unpack(ARGV, first, last))
      for i = 1, #found do
        if found[i] == 1 then
          refused[#refused + 1] = first - at + i - 1
        end
      end
    end
  end
end
if #refused > 1 then
  return refused
end

local states_at = at + ids
refused = {'CONFLICT'}
for i = 0, states - 1 do
  if (redis.call('HGET', KEYS[8 + i], 'v') or '0') ~= ARGV[states_at + 4 * i] then
    refused[#refused + 1] = i
  end
end
if #refused > 1 then
  return refused
end

for first = at, at + ids - 1, 4000 do
  redis.call('SADD', KEYS[4], unpack(ARGV, first, math.min(first + 3999, at + ids - 1)))
end
if ids > 0 then
  redis.call('PEXPIRE', KEYS[4], ARGV[5])
end
for i = 0, states - 1 do
  local own = states_at + 4 * i
  if ARGV[own + 2] ~= '' then
    redis.call('HSET', KEYS[8 + i], 'v', ARGV[own + 1], 'd', ARGV[own + 2])
    if ARGV[own + 3] ~= '0' then
      redis.call('PEXPIRE', KEYS[8 + i], ARGV[own + 3])
    end
  end
end
at = states_at + 4 * states
for target = 1, 2 do
  for _ = 1, entries[target] do
    local strings = tonumber(ARGV[at])
    redis.call('XADD', KEYS[1 + target], '*', unpack(ARGV, at + 1, at + strings))
    at = at + 1 + strings
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '|' .. ARGV[4])
if not ARGV[at] then
  return {'OK'}
end

local timers = 8 + states
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
  redis.call('ZRANGE', KEYS[timers + 1], 0, 0, 'WITHSCORES')[2] or '',
  redis.call('ZRANGE', KEYS[timers + 2], 0, 0, 'WITHSCORES')[2] or '',
  redis.call('HGET', KEYS[timers], 'clock') or '',
  redis.call('ZCARD', KEYS[timers + 1]) + redis.call('ZCARD', KEYS[timers + 2]),
}
