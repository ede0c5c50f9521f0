-- Returns the timers of a shard that are due by one clock, the earliest first.
-- KEYS: timers, timers by the clock in question, timers by event time, timers by the wall clock
-- ARGV: due until (ms), most to return
-- Returns {payloads, next by event time or '', next by the wall clock or '', event clock or '',
--          number of timers}; the next ones are those after the ones returned.
local names = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
local payloads = {}
for i = 1, #names do
  payloads[i] = redis.call('HGET', KEYS[1], names[i]) or ('no payload of ' .. names[i])
end
local answer = {payloads}
for set = 3, 4 do
  local skip = 0
  if KEYS[set] == KEYS[2] then
    skip = #names
  end
  answer[set - 1] = redis.call('ZRANGE', KEYS[set], skip, skip, 'WITHSCORES')[2] or ''
end
answer[4] = redis.call('HGET', KEYS[1], 'clock') or ''
answer[5] = redis.call('ZCARD', KEYS[3]) + redis.call('ZCARD', KEYS[4])
return answer
