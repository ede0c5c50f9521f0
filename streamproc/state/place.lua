-- Moves a shard's position by an operator's hand; older owners' commits fail from now on.
-- KEYS: positions
-- ARGV: shard field, epoch, position
-- Returns {'OK'} or {'FENCED', newer epoch}.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local epoch = 0
if stored then
  epoch = tonumber(string.sub(stored, 1, string.find(stored, '|', 1, true) - 1))
end
if epoch > tonumber(ARGV[2]) then
  return {'FENCED', epoch}
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '|' .. ARGV[3])
return {'OK'}
