-- What every script begins with.
local HOUR, DAY = 3600000, 86400000

-- The time in milliseconds: the server's own, unless a test gives another.
local function clock(given)
  if given ~= '0' then return tonumber(given) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- A number as text: Lua itself would write a large one with an exponent.
local function ms(n) return string.format('%.0f', n) end

-- How long until a log of events allows one more: the limit is reached exactly while its count-th newest event is
-- inside the window.
local function wait(key, count, window, now)
  if count == '0' then return 0 end
  local blocking = redis.call('ZREVRANGE', key, count - 1, count - 1, 'WITHSCORES')
  if not blocking[2] then return 0 end
  return math.max(0, tonumber(blocking[2]) + window - now)
end

-- Adds an event to a log, once for each name, and lets go of what has left the window.
local function append(key, name, window, now)
  redis.call('ZADD', key, ms(now), name)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', ms(now - window))
  redis.call('PEXPIRE', key, ms(window))
end

-- How many events of a log lie inside the window.
local function used(key, window, now)
  return redis.call('ZCOUNT', key, '(' .. ms(now - window), '+inf')
end

-- The record of a request while it counts, its first words by name. The rest of one that has ended is its outcome.
local function read(line, now)
  local r = {}
  r.state, r.owner, r.till, r.receipt, r.rest = string.match(line or '', '^(%S+) (%S+) (%S+) (%S+) (.+)$')
  return r.state and tonumber(r.till) > now and r or nil
end

-- Names the rest of the words of a request in progress.
local function unfold(r)
  r.lease, r.attempt, r.started, r.doubts, r.starts, r.facts, r.purpose, r.notes = string.match(r.rest,
    '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+ %S+ %S+ %S+ %S+ %S+ %S+) (%S+) (.+)$')
end

-- The line of a request in progress.
local function live(r)
  return table.concat({r.state, r.owner, r.till, r.receipt, r.lease, r.attempt, r.started, r.doubts, r.starts, r.facts,
    r.purpose, r.notes}, ' ')
end

-- The last report of the provider, if there is one: the message's name, rank, status, and 1 if it was published.
local function report(r) return string.match(r.receipt, '^([^,]+),(%d+),([^,]+),(%d)') end

-- Does somebody who knows of so many tries know the last one? One that is under way need not have been made.
local function knows_last(r, made, must_be_made)
  return r.attempt == made or not must_be_made and r.state == 'sending' and tonumber(r.attempt) - 1 == tonumber(made)
end

-- The try at hand is in doubt. It may have been before.
local function doubt(r)
  if r.state ~= 'doubt' then r.state, r.doubts = 'doubt', r.doubts + 1 end
end

-- How long a recipient cools down: until its cooldown ends, and then as long as the request that began it may still be
-- sent. So no two messages to one recipient are ever in doubt together: the provider could not tell them apart.
-- Reads a key that no script is given: the record of that request, `r:req:<request>`.
local function cooling(key, stood, now)
  local till, request = string.match(stood or '', '^(%S+) (%S+)$')
  if not till then return 0 end
  if tonumber(till) > now then return till - now end
  local r = read(redis.call('GET', string.sub(key, 1, -#'cooldown' - 1) .. 'req:' .. request), now)
  if not r or r.state == 'ended' then return 0 end
  unfold(r)
  if tonumber(string.match(r.facts, '%S+$')) <= now then return 0 end
  return math.max(r.lease - now, 1000)
end

-- Blocks what a provider refuses, never for less long than it is already; until somebody takes it away if it lasts '-'.
-- A recipient's is listed, with what may be shown of it: who it is, masked, and why.
-- Writes keys that most scripts are not given: a recipient's `r:suppression`, and the list `suppressions`.
local function block(key, code, lasts, now, shown)
  local stood = string.match(redis.call('GET', key) or '', ' (%S+)$')
  local till = lasts ~= '-' and now + lasts
  if stood == '-' or till and stood and tonumber(stood) >= till then return end
  local prefix, recipient = string.match(key, '^(.+):(%x+):suppressed$')
  local note, line
  if prefix then
    note = prefix .. ':' .. recipient .. ':suppression'
    local since = stood and tonumber(stood) > now and string.match(redis.call('GET', note) or '', '^%S+')
    line = (since or ms(now)) .. ' ' .. shown
    redis.call('ZREMRANGEBYSCORE', prefix .. ':suppressions', '-inf', ms(now))
    redis.call('ZADD', prefix .. ':suppressions', till and ms(till) or 'inf', recipient)
  end
  if till then
    redis.call('SET', key, code .. ' ' .. ms(till), 'PX', lasts)
    if note then redis.call('SET', note, line, 'PX', lasts) end
  else
    redis.call('SET', key, code .. ' -')
    if note then redis.call('SET', note, line) end
  end
end

-- What stands against a recipient: the number, until when, since when, who, and why.
local function suppression(key, note, now)
  local code, till = string.match(redis.call('GET', key) or '', '^(%S+) (%S+)$')
  if not code or till ~= '-' and tonumber(till) <= now then return nil end
  return table.concat({code, till, redis.call('GET', note) or '- -'}, ' ')
end

-- Notes that a request came and nothing was sent.
local function remember_unsent(recent, request, count, now)
  redis.call('ZADD', recent, ms(now), request)
  redis.call('ZREMRANGEBYRANK', recent, 0, -1 - count)
  redis.call('PEXPIRE', recent, DAY)
end
