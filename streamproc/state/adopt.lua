-- Makes this owner the only one whose commits for the shard are accepted from now on.
-- KEYS: positions, incarnation, timers, timers by event time, timers by the wall clock
-- ARGV: shard field, epoch, start position or '', id for a store without one
-- Returns {'OK', position or '', incarnation, now in ms, next timer by event time or '',
--          next by the wall clock or '', event clock or '', number of timers}
--         or {'FENCED', newer epoch}.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local epoch, position = 0, ''
if stored then
  local bar = string.find(stored, '|', 1, true)
  epoch = tonumber(string.sub(stored, 1, bar - 1))
  position = string.sub(stored, bar + 1)
end
if epoch > tonumber(ARGV[2]) then
  return {'FENCED', epoch}
end
if position == '' then
  position = ARGV[3]
end
redis.call('SET', KEYS[2], ARGV[4], 'NX')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '|' .. position)
local now = redis.call('TIME')
return {
  'OK', position, redis.call('GET', KEYS[2]), now[1] * 1000 + math.floor(now[2] / 1000),
  redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')[2] or '',
  redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2] or '',
  redis.call('HGET', KEYS[3], 'clock') or '',
  redis.call('ZCARD', KEYS[4]) + redis.call('ZCARD', KEYS[5]),
}
