"""The scripts of the store in Redis: each is one atomic step.

A conversation is a hash, with the responses that build on one another or with what its callers put
into it, and all of its keys expire together. Keys, after the prefix:

- `conversation:ID`: `owner`; of each response `parent:ID`, `input:ID`, `output:ID`, `reply:ID`; of
  a conversation object `created_at`, `metadata` and `item:ID`
- `conversation:ID:items`: a list of the ids of its items, in order
- `response:ID`: the conversation of a response
- `uses`: a sorted set of the conversations, by the time of their last use
- `sizes`: a hash of the bytes of each conversation; `total`: their sum
"""

# long: the scripts of one store.
from __future__ import annotations

from typing import Final

from bridge.core.redis import Script

_COMMON: Final = """
local P, now, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local USES, SIZES, TOTAL = P .. 'uses', P .. 'sizes', P .. 'total'
local TTL = math.ceil(keep)

local function chat(id) return P .. 'conversation:' .. id end
local function order(id) return P .. 'conversation:' .. id .. ':items' end
local function place(id) return P .. 'response:' .. id end

local function responses_of(id)
  local found = {}
  for _, field in ipairs(redis.call('HKEYS', chat(id))) do
    if string.sub(field, 1, 7) == 'parent:' then found[#found + 1] = string.sub(field, 8) end
  end
  return found
end

local function grown(id, by)
  if by == 0 then return end
  redis.call('HINCRBY', SIZES, id, by)
  redis.call('INCRBY', TOTAL, by)
end

local function drop(id)
  for _, response in ipairs(responses_of(id)) do redis.call('DEL', place(response)) end
  redis.call('UNLINK', chat(id), order(id))
  redis.call('ZREM', USES, id)
  redis.call('DECRBY', TOTAL, redis.call('HGET', SIZES, id) or 0)
  redis.call('HDEL', SIZES, id)
end

local function expire()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', USES, '-inf', now - keep, 'LIMIT', 0, 100)) do
    drop(id)
  end
end

local function used(id)
  redis.call('ZADD', USES, now, id)
  for _, key in ipairs({USES, SIZES, TOTAL, chat(id), order(id)}) do
    redis.call('EXPIRE', key, TTL)
  end
  for _, response in ipairs(responses_of(id)) do redis.call('EXPIRE', place(response), TTL) end
end

local function mine(id, owner)
  local at = redis.call('ZSCORE', USES, id)
  return at and tonumber(at) > now - keep and redis.call('HGET', chat(id), 'owner') == owner
end

-- A conversation that its callers made, not one of responses.
local function object(id, owner)
  return mine(id, owner) and redis.call('HEXISTS', chat(id), 'created_at') == 1
end

-- Make room for a conversation that grows; nothing is deleted for one that is too large itself.
local function made_room(id, by, most)
  if tonumber(redis.call('HGET', SIZES, id) or 0) + by > most then return false end
  while tonumber(redis.call('GET', TOTAL) or 0) + by > most do
    local oldest = redis.call('ZRANGE', USES, 0, 1)
    local last = oldest[1] ~= id and oldest[1] or oldest[2]
    if not last then return true end
    drop(last)
  end
  return true
end

local function lengths(id, fields)
  local sum = 0
  for _, field in ipairs(fields) do sum = sum + redis.call('HSTRLEN', chat(id), field) end
  return sum
end

local function append(id, from)
  for n = from, #ARGV, 2 do
    if redis.call('HSET', chat(id), 'item:' .. ARGV[n], ARGV[n + 1]) == 1 then
      redis.call('RPUSH', order(id), ARGV[n])
    end
  end
end
"""
"""Every script begins with the prefix, the time in Unix seconds and for how long to store."""


def _script(source: str) -> Script:
    return Script(_COMMON + source)


EXPIRE: Final = _script("expire()")

PUT: Final = _script("""
local most, owner, id, parent = tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]
local input, output, reply = ARGV[8], ARGV[9], ARGV[10]
expire()
local within = id
if parent ~= '' then
  within = redis.call('GET', place(parent))
  if not (within and mine(within, owner)) then return 0 end
end
local held = redis.call('GET', place(id))
if held and not (held == within and mine(held, owner)) then return 0 end
local fields = {'input:' .. id, 'output:' .. id, 'reply:' .. id}
local by = #input + #output + #reply - lengths(within, fields)
if not made_room(within, by, most) then return 0 end
redis.call('HSET', chat(within), 'owner', owner, 'parent:' .. id, parent,
  fields[1], input, fields[2], output, fields[3], reply)
redis.call('SET', place(id), within)
grown(within, by)
used(within)
return 1
""")

GET: Final = _script("""
local owner, id = ARGV[4], ARGV[5]
local within = redis.call('GET', place(id))
if not (within and mine(within, owner)) then return false end
return redis.call('HMGET', chat(within), 'parent:' .. id, 'input:' .. id, 'output:' .. id,
  'reply:' .. id)
""")

HISTORY: Final = _script("""
local owner, id, most = ARGV[4], ARGV[5], tonumber(ARGV[6])
local within = redis.call('GET', place(id))
if not (within and mine(within, owner)) then return {0} end
local chain, size = {}, 0
while id ~= '' do
  local parent = redis.call('HGET', chat(within), 'parent:' .. id)
  if not parent then return {0} end
  size = size + lengths(within, {'input:' .. id, 'output:' .. id})
  chain[#chain + 1] = id
  id = parent
end
if size > most then return {-1} end
local found = {1}
for n = #chain, 1, -1 do
  found[#found + 1] = redis.call('HGET', chat(within), 'input:' .. chain[n])
  found[#found + 1] = redis.call('HGET', chat(within), 'output:' .. chain[n])
end
return found
""")

DELETE: Final = _script("""
local owner, id = ARGV[4], ARGV[5]
expire()
local within = redis.call('GET', place(id))
if not (within and mine(within, owner)) then return 0 end
local fields = {'input:' .. id, 'output:' .. id, 'reply:' .. id}
grown(within, -lengths(within, fields))
redis.call('HDEL', chat(within), 'parent:' .. id, unpack(fields))
redis.call('DEL', place(id))
if #responses_of(within) == 0 then drop(within) end
return 1
""")

CREATE: Final = _script("""
local most, owner, id, created, metadata = tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7], ARGV[8]
expire()
local by = #metadata
for n = 10, #ARGV, 2 do by = by + #ARGV[n] end
if redis.call('EXISTS', chat(id)) == 1 or not made_room(id, by, most) then return 0 end
redis.call('HSET', chat(id), 'owner', owner, 'created_at', created, 'metadata', metadata)
append(id, 9)
grown(id, by)
used(id)
return 1
""")

GET_CONVERSATION: Final = _script("""
local owner, id = ARGV[4], ARGV[5]
if not object(id, owner) then return false end
return redis.call('HMGET', chat(id), 'created_at', 'metadata')
""")

UPDATE: Final = _script("""
local owner, id, metadata = ARGV[4], ARGV[5], ARGV[6]
if not object(id, owner) then return false end
grown(id, #metadata - lengths(id, {'metadata'}))
redis.call('HSET', chat(id), 'metadata', metadata)
used(id)
return redis.call('HGET', chat(id), 'created_at')
""")

DELETE_CONVERSATION: Final = _script("""
local owner, id = ARGV[4], ARGV[5]
if not object(id, owner) then return 0 end
drop(id)
return 1
""")

ITEMS: Final = _script("""
local owner, id, most = ARGV[4], ARGV[5], tonumber(ARGV[6])
if not object(id, owner) then return {0} end
local ids, size = redis.call('LRANGE', order(id), 0, -1), 0
for _, item in ipairs(ids) do size = size + lengths(id, {'item:' .. item}) end
if size > most then return {-1} end
local found = {1}
for _, item in ipairs(ids) do
  found[#found + 1] = redis.call('HGET', chat(id), 'item:' .. item)
end
return found
""")

ITEM: Final = _script("""
local owner, id, item = ARGV[4], ARGV[5], ARGV[6]
return object(id, owner) and redis.call('HGET', chat(id), 'item:' .. item)
""")

ADD: Final = _script("""
local most, owner, id = tonumber(ARGV[4]), ARGV[5], ARGV[6]
expire()
if not object(id, owner) then return 0 end
local by = 0
for n = 8, #ARGV, 2 do by = by + #ARGV[n] - lengths(id, {'item:' .. ARGV[n - 1]}) end
if not made_room(id, by, most) then return 0 end
append(id, 7)
grown(id, by)
used(id)
return 1
""")

DELETE_ITEM: Final = _script("""
local owner, id, item = ARGV[4], ARGV[5], ARGV[6]
if not object(id, owner) then return 0 end
grown(id, -lengths(id, {'item:' .. item}))
redis.call('LREM', order(id), 1, item)
return redis.call('HDEL', chat(id), 'item:' .. item)
""")
