-- Moves timers of a finished shard to one of its children; what is gone already stays gone.
-- KEYS: the parent's timers, by event time, by the wall clock; the child's in the same order
-- ARGV: names...
-- Returns {number of timers moved}. The child's event clock is moved on to the parent's.
local moved = 0
for i = 1, #ARGV do
  local payload = redis.call('HGET', KEYS[1], ARGV[i])
  if payload then
    local has = redis.call('HEXISTS', KEYS[4], ARGV[i]) == 1
    for set = 2, 3 do
      local score = redis.call('ZSCORE', KEYS[set], ARGV[i])
      if score and not has then
        redis.call('ZADD', KEYS[set + 3], score, ARGV[i])
      end
      redis.call('ZREM', KEYS[set], ARGV[i])
    end
    if not has then
      redis.call('HSET', KEYS[4], ARGV[i], payload)
      moved = moved + 1
    end
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
local clock = redis.call('HGET', KEYS[1], 'clock')
if clock and tonumber(clock) > tonumber(redis.call('HGET', KEYS[4], 'clock') or '-1') then
  redis.call('HSET', KEYS[4], 'clock', clock)
end
return {moved}
