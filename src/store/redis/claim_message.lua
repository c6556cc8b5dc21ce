-- Claim: finds the message of a request in doubt among those that a lookup listed, and claims it.
-- Any listed message that no request has claimed may belong to each request that may have an unclaimed message. So one of them is
-- this request's only if they outnumber those of all others. It is the first one after theirs, unless their times overlap.
-- KEYS     record, claim without a message id, sends; the keys of other records follow from the first
-- ARGV     now, token, request id, any code, clocks differ, claim kept, requests max, then the message ids, oldest first
-- Answers  claimed MESSAGE | sent_unnamed | all_claimed | ambiguous | not_owner
local record, claim_key, sends = unpack(KEYS)
local now, token, request_id, any_code, clocks_differ, claim_kept, requests_max = unpack(ARGV, 1, 7)
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

-- Codes of one purpose and key are compared by their digests. A caller's code may be the code of another purpose, too.
local function may_be_our_code(code)
  if any_code == '1' or code == '- - - - -' then return true end
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
local all, overlaps, named = 0, false, {}
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
    if reported then
      named[reported] = true
      if claimed_by(reported) ~= other_id then count = count - 1 end
    end
    if count > 0 and tonumber(till) + clocks_differ >= from and since - clocks_differ <= now and may_be_our_code(code) then
      all = all + count
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
if #free <= all then return 'ambiguous' end
if overlaps then return 'sent_unnamed' end
local message_id = free[all + 1]
redis.call('SET', claim_key .. message_id, decimal(now + claim_kept) .. ' ' .. request_id, 'PX', claim_kept)
return 'claimed ' .. message_id
