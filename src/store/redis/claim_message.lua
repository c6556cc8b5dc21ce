-- Claim: finds the message of a request in doubt among those that a lookup listed, and claims it.
-- If other requests may have N messages not yet claimed, up to N of the unclaimed listed ones may be theirs. With more than N
-- listed, one must be ours. If theirs are all older, ours is number N+1; if not, we know that one is ours but not which
-- (`sent_unnamed`).
-- KEYS     record, prefix of the claims' keys (a message id follows), sends (the recipient's requests: other records are
--          found by their ids)
-- ARGV     now, token of the handler's lease, request id, `a_text_is_missing` (1: a listed message has no text, so it may
--          hold any code), `clock_difference_max` (between the provider's clock and ours), `claim_kept`,
--          `requests_max` (with more requests to read: ambiguous), then the ids of the listed messages, oldest first
-- Answers  claimed MESSAGE | sent_unnamed | all_claimed (by other requests) | ambiguous (at most N unclaimed) |
--          not_owner (the lease is not the handler's any more, or the request is completed)
local record, claim_key, sends = unpack(KEYS)
local now, token, request_id, a_text_is_missing, clock_difference_max, claim_kept, requests_max = unpack(ARGV, 1, 7)
now = clock(now)
local r = read_record(redis.call('GET', record), now)
if not r or r.state == 'ended' or r.owner ~= token then return 'not_owner' end
read_progress(r)
local _, from = possible_messages(r, now)
local ours = code_of(r)

local function claimed_by(message_id)
  local claim = redis.call('GET', claim_key .. message_id)
  if not claim then return nil end
  local claimed_until, request = string.match(claim, '^(%d+) (%S+)$')
  return number(claimed_until) > now and request or nil
end

-- Digests compare only within one purpose and key. Beyond that, codes that we made count as different, and a caller's code
-- may equal any. '- - - - -' is the code of a request whose record was lost: it may be any, too.
local function may_be_our_code(code)
  if a_text_is_missing == '1' or code == '- - - - -' then return true end
  local challenge, kid, digest, callers, purpose = string.match(code, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  local our_challenge, our_kid, our_digest, our_callers, our_purpose = string.match(ours, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  if challenge == our_challenge then return true end
  if kid == our_kid and purpose == our_purpose then return digest == our_digest end
  return callers == '1' or our_callers == '1'
end

-- The messages of another request that may be unclaimed: their number, their times, and their code.
local function unnamed_messages(other)
  if other.state == 'ended' then
    local words = string.match(other.rest, ',"unnamed":"([^"]*)"}$')
    if not words then return 0 end
    local count, since, till, code = string.match(words, '^(%d+) (%d+) (%d+) (%S+ %S+ %S+ %S+ %S+)$')
    return assert(count, 'unnamed messages cannot be read'), since, till, code
  end
  read_progress(other)
  local count, since, till = possible_messages(other, now)
  return count, since, till, code_of(other)
end

local others = redis.call('ZRANGEBYSCORE', sends, decimal(from - claim_kept), '+inf', 'LIMIT', 0, requests_max + 1)
if #others > tonumber(requests_max) then return 'ambiguous' end
local record_prefix = string.sub(record, 1, -#request_id - 1)
local others_count, overlaps, named = 0, false, {}
for _, other_id in ipairs(others) do
  local is_read, other, count, since, till, code = pcall(function()
    local other = other_id ~= request_id and read_record(redis.call('GET', record_prefix .. other_id), now)
    if other then return other, unnamed_messages(other) end
  end)
  -- Another request whose record cannot be read may have made any message.
  if not is_read then return 'ambiguous' end
  if other then
    local reported = receipt_of(other)
    count = tonumber(count)
    -- A receipt names one of its messages: it is taken off the count, unless the request claimed it, as completion then did
    -- so.
    if reported then
      named[reported] = true
      if claimed_by(reported) ~= other_id then count = count - 1 end
    end
    local is_in_time = count > 0 and tonumber(till) + clock_difference_max >= from and since - clock_difference_max <= now
    if is_in_time and may_be_our_code(code) then
      others_count = others_count + count
      overlaps = overlaps or other.state ~= 'ended' or tonumber(till) > from
    end
  end
end

local free = {}
for i = 8, #ARGV do
  local owner = claimed_by(ARGV[i])
  if owner == request_id then return 'claimed ' .. ARGV[i] end
  if not owner and not named[ARGV[i]] then free[#free + 1] = ARGV[i] end
end
if #free == 0 then return 'all_claimed' end
if #free <= others_count then return 'ambiguous' end
if overlaps then return 'sent_unnamed' end
local message_id = free[others_count + 1]
redis.call('SET', claim_key .. message_id, decimal(now + claim_kept) .. ' ' .. request_id, 'PX', claim_kept)
return 'claimed ' .. message_id
