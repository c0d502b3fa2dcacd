"""The script that counts the use of a key in Redis: one atomic step, and one round trip.

It is told what has happened since, and then decides on one more request, if there is one. All it is
told can be told twice: requests have ids, and what a server has used is its total so far, of which
the script adds what is new. So nothing is lost or counted twice if an answer of Redis is lost, and
a server that could not reach Redis for a while makes up for it with its next call.
"""

from __future__ import annotations

from typing import Final

from bridge.core.redis import Script

MICROSECONDS: Final = 1_000_000
NANODOLLARS: Final = 1_000_000_000
"""Dollars are counted in whole billionths, so that sums are exact."""

# Keys: the running requests (scores: when their leases end), the requests of the last minute
# (scores: when they were admitted), what was used this day, and this month, and a mark, by which it
# is noticed if Redis has lost what it knew. Times are microseconds of Redis's clock. The reply: the
# mark; whether it is admitted; running requests; requests of the last minute, the time until there
# are fewer than the limit, and until there are none; tokens and nanodollars of the day, and of the
# month.
COUNT: Final = Script("""
local told = cjson.decode(ARGV[1])
local running, begun = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local minute = 60000000
local mark = redis.call('GET', KEYS[5])
if not mark then
  mark = told.server .. ':' .. time[1] .. ':' .. time[2]
  redis.call('SET', KEYS[5], mark)
end

local function lease(id)
  redis.call('ZADD', running, now + told.lease, id)
  redis.call('EXPIRE', running, math.ceil(told.lease / 1000000))
end

local function begin(id, age)
  redis.call('ZADD', begun, now - age, id)
  redis.call('EXPIRE', begun, 60)
end

local function used(key, by_unit, seconds)
  local totals = {}
  for number, unit in ipairs({'tokens', 'nanodollars'}) do
    local field, own = unit .. ':' .. told.server, by_unit[number]
    local new = own - tonumber(redis.call('HGET', key, field) or 0)
    if new > 0 then
      redis.call('HSET', key, field, own)
      redis.call('HINCRBY', key, unit, new)
      redis.call('EXPIRE', key, seconds)
    end
    totals[number] = tonumber(redis.call('HGET', key, unit) or 0)
  end
  return totals
end

local function since(place)
  local found = redis.call('ZRANGE', begun, place, place, 'WITHSCORES')
  return found[2] and tonumber(found[2]) + minute - now or 0
end

for _, id in ipairs(told.running) do lease(id) end
for _, one in ipairs(told.begun) do begin(one[1], one[2]) end
for _, id in ipairs(told.ended) do redis.call('ZREM', running, id) end
redis.call('ZREMRANGEBYSCORE', running, '-inf', now)
redis.call('ZREMRANGEBYSCORE', begun, '-inf', now - minute)
local day = used(KEYS[3], told.day, 3 * 86400)
local month = used(KEYS[4], told.month, 40 * 86400)

local function over(limit, count)
  return limit and count >= limit
end

local one, admitted = told.admit, 0
if one and not (
  over(one.concurrent, redis.call('ZCARD', running))
  or over(one.per_minute, redis.call('ZCARD', begun))
  or over(one.tokens_per_day, day[1]) or over(one.tokens_per_month, month[1])
  or over(one.nanodollars_per_day, day[2]) or over(one.nanodollars_per_month, month[2])
) then
  admitted = 1
  lease(one.id)
  if one.per_minute then begin(one.id, 0) end
end

local requests, next_in = redis.call('ZCARD', begun), 0
if told.per_minute and requests >= told.per_minute then next_in = since(-told.per_minute) end
return {
  mark, admitted, redis.call('ZCARD', running), requests, next_in, since(-1),
  day[1], day[2], month[1], month[2]
}
""")
