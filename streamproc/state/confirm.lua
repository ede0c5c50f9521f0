-- Writes a shard's position again, unchanged, so that this connection has written last what WAIT is
-- to wait for.
-- KEYS: positions
-- ARGV: shard field, epoch and position as they must be stored
-- Returns what is stored, '' if nothing is.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored == ARGV[2] then
  redis.call('HSET', KEYS[1], ARGV[1], stored)
end
return stored or ''
