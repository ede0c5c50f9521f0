-- Stands before check.lua and commit.lua: how event ids are marked, in one of two layouts.
-- With `sets` > 0, that many keys from `first_key` on are sets of ids, and the ids are arguments
-- from `first_id` on; with 0, each id is a key of its own, and there are no arguments.
-- Lua unpacks just below 8,000 values at once.
local CHUNK = 4000

-- Returns the index, from 0 on, of each id that is marked; of some twice.
local function marked_ids(first_key, sets, first_id, ids)
  local marked = {}
  for first = 0, ids - 1, CHUNK do
    local last = math.min(first + CHUNK, ids) - 1
    if sets == 0 then
      local found = redis.call('MGET', unpack(KEYS, first_key + first, first_key + last))
      for i = 1, last - first + 1 do
        if found[i] then
          marked[#marked + 1] = first + i - 1
        end
      end
    end
    for key = first_key, first_key + sets - 1 do
      if redis.call('EXISTS', KEYS[key]) == 1 then
        local found =
          redis.call('SMISMEMBER', KEYS[key], unpack(ARGV, first_id + first, first_id + last))
        for i = 1, #found do
          if found[i] == 1 then
            marked[#marked + 1] = first + i - 1
          end
        end
      end
    end
  end
  return marked
end

-- Marks all ids, in the first of the sets, for `keep` ms from now.
local function mark_ids(first_key, sets, first_id, ids, keep)
  if sets == 0 then
    for key = first_key, first_key + ids - 1 do
      -- '1' is shared by all keys; an empty value would take 16 bytes more each.
      redis.call('SET', KEYS[key], '1', 'PX', keep)
    end
  elseif ids > 0 then
    for first = first_id, first_id + ids - 1, CHUNK do
      local last = math.min(first + CHUNK, first_id + ids) - 1
      redis.call('SADD', KEYS[first_key], unpack(ARGV, first, last))
    end
    redis.call('PEXPIRE', KEYS[first_key], keep)
  end
end

