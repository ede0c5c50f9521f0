-- Stands before check.lua and commit.lua: how event ids are marked, in one of two layouts.
-- With `sets` > 0, that many keys from `first_key` on are sets of ids, and `packed` is the ids of 16
-- bytes each, one after the other: a client spends more on a thousand arguments than this does on
-- cutting one apart. With 0, each id is a key of its own, and `packed` is empty.
-- Lua unpacks just below 8,000 values at once.
local CHUNK = 4000
local ID_BYTES = 16

local function cut(packed)
  local ids = {}
  for at = 1, #packed, ID_BYTES do
    ids[#ids + 1] = string.sub(packed, at, at + ID_BYTES - 1)
  end
  return ids
end

-- Returns the index, from 0 on, of each id that is marked; of some twice.
local function marked_ids(first_key, sets, packed, ids)
  local marked, cut_ids = {}, cut(packed)
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
        local found = redis.call('SMISMEMBER', KEYS[key], unpack(cut_ids, first + 1, last + 1))
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
local function mark_ids(first_key, sets, packed, ids, keep)
  if sets == 0 then
    for key = first_key, first_key + ids - 1 do
      -- '1' is shared by all keys; an empty value would take 16 bytes more each.
      redis.call('SET', KEYS[key], '1', 'PX', keep)
    end
  elseif ids > 0 then
    local cut_ids = cut(packed)
    for first = 1, ids, CHUNK do
      redis.call('SADD', KEYS[first_key], unpack(cut_ids, first, math.min(first + CHUNK - 1, ids)))
    end
    redis.call('PEXPIRE', KEYS[first_key], keep)
  end
end

