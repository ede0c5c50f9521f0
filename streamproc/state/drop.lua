-- Drops what is parked under a key: all of it, or the oldest record.
-- KEYS: list of the key, redrive, parked, parking
-- ARGV: partition key, 'head' or 'all', next version of what is parked
-- Returns the number of records dropped.
local waiting = redis.call('LLEN', KEYS[1])
if waiting == 0 then
  return 0
end
if ARGV[2] == 'head' and waiting > 1 then
  redis.call('LPOP', KEYS[1])
  redis.call('HINCRBY', KEYS[3], ARGV[1], -1)
  return 1
end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('SET', KEYS[4], ARGV[3])
return waiting
