-- Checks of typed codes. A check is counted before the code is compared, or before the provider is asked.
-- Verdicts v: verified | w LEFT: wrong (B checks left) | u: already used | x AT: expired (I6) | l MS: locked (I6; 0: until a new
--          code) | n: none pending | k: key unavailable (none of our keys made the code) | ?: unanswered: the code may have been
--          right, and the check counts | -: unanswered, and not counted

-- The challenge of a purpose as a table, unless its time is over.
local function pending_challenge(c, s, purpose, now)
  local packed, from, after = find_challenge(s, purpose)
  if not packed then return nil end
  local challenge = {purpose = purpose, from = from, after = after, unfinished = {}, sid = ''}
  local facts_at, at
  challenge.expires, challenge.checks, challenge.used_by, facts_at = read(CHALLENGE, packed)
  local _
  _, challenge.id, challenge.digest, challenge.kid, at = read(CODE_FACTS, packed, facts_at)
  challenge.facts = sub(packed, facts_at, at - 1)
  if at <= #packed then challenge.sid, at = read('>Bc0', packed, at) end
  while at <= #packed do
    local check, sid, after_it = read('>c8Bc0', packed, at)
    challenge.unfinished[#challenge.unfinished + 1] = {check = check, sid = sid}
    at = after_it
  end
  return challenge.expires + c.challenge_kept_after > now and challenge or nil
end

local function write_challenge(c, key, s, challenge, now)
  local packed = {pack(CHALLENGE, challenge.expires, challenge.checks, #challenge.used_by, challenge.used_by), challenge.facts}
  if challenge.sid ~= '' or #challenge.unfinished > 0 then packed[3] = pack('>Bc0', #challenge.sid, challenge.sid) end
  for _, asked in ipairs(challenge.unfinished) do packed[#packed + 1] = pack('>c8Bc0', asked.check, #asked.sid, asked.sid) end
  packed = table.concat(packed)
  local entry = pack('>Bc0Hc0', #challenge.purpose, challenge.purpose, #packed, packed)
  s.challenges = sub(s.challenges, 1, challenge.from - 1) .. entry .. sub(s.challenges, challenge.after)
  write_recipient(key, s, c.window, now)
end

-- The time for which a recipient's wrong attempts lock it.
local function locked_for(c, s, now)
  local left = 0
  for _, limit in ipairs(c.recipient_limits) do
    if limit.kind == WRONG then left = max(left, time_until_allowed(s.wrong, CHECK_ENTRY, limit.count, limit.window, now)) end
  end
  return left
end

-- Verification: checks a typed code.
-- KEYS     recipient
-- ARGV     settings; c8 check, then the purpose; then each of our code keys: the id, and the digest of the typed code under it
-- Answers  a verdict
local function verify(keys, args)
  local c = settings_of(args[1])
  local check, purpose_at = read('>c8', args[2])
  local now = clock(c.test_time)
  local value = call('GET', keys[1])
  if not value then return 'n' end
  local s = read_recipient(keys[1], value)
  local challenge = pending_challenge(c, s, sub(args[2], purpose_at), now)
  if not challenge then return 'n' end
  if challenge.used_by ~= '' then return challenge.used_by == check and 'v' or 'u' end
  if challenge.expires <= now then return pack('>c1I6', 'x', challenge.expires) end
  -- The check is repeated because its answer was lost. It was counted the first time.
  if find_entry(s.wrong, CHECK_ENTRY, check) then return pack('>c1B', 'w', max(0, c.wrong_per_challenge - challenge.checks)) end
  -- The recipient's lock comes first: a new code does not lift it.
  local locked = locked_for(c, s, now)
  if locked > 0 then return pack('>c1I6', 'l', locked) end
  if challenge.checks >= c.wrong_per_challenge then return pack('>c1I6', 'l', 0) end
  local typed
  for i = 3, #args, 2 do
    if args[i] == challenge.kid then typed = args[i + 1] end
  end
  if not typed then return 'k' end
  challenge.checks = challenge.checks + 1
  local is_right = typed == challenge.digest
  if is_right then challenge.used_by = check else s.wrong = append(s.wrong, CHECK_ENTRY, check, HOUR, now, c.entries_max) end
  write_challenge(c, keys[1], s, challenge, now)
  return is_right and 'v' or pack('>c1B', 'w', c.wrong_per_challenge - challenge.checks)
end

local function find_unfinished(challenge, check)
  for i, unfinished_check in ipairs(challenge.unfinished) do
    if unfinished_check.check == check then return unfinished_check, i end
  end
end

-- Provider check, first half: the check is counted before the provider is asked.
-- KEYS     recipient, possible checks (the recipient's checks that may have been right), a sorted set: the member is the check's
--          8 bytes and the SID that it asked about
-- ARGV     settings; c8 check, then the purpose; key id of codes that the provider made
-- Answers  a SID: ask the provider; without a SID if it is not known | a verdict
local function begin_provider_check(keys, args)
  local c = settings_of(args[1])
  local check, purpose_at = read('>c8', args[2])
  local now = clock(c.test_time)
  local s = read_recipient(keys[1], call('GET', keys[1]))
  local challenge = pending_challenge(c, s, sub(args[2], purpose_at), now)
  if not challenge then return 'n' end
  if challenge.used_by ~= '' then return 'u' end
  if challenge.kid ~= args[3] then return 'k' end
  -- The step is repeated because its answer was lost. It was counted the first time.
  local unfinished_check = find_unfinished(challenge, check)
  if unfinished_check then return 'a' .. unfinished_check.sid end
  if challenge.expires <= now then return pack('>c1I6', 'x', challenge.expires) end
  -- The recipient's lock comes first: a new code does not lift it.
  local locked = locked_for(c, s, now)
  if locked > 0 then return pack('>c1I6', 'l', locked) end
  if challenge.checks >= c.wrong_per_challenge then return pack('>c1I6', 'l', 0) end
  challenge.checks = challenge.checks + 1
  challenge.unfinished[#challenge.unfinished + 1] = {check = check, sid = challenge.sid}
  -- Counted as wrong until the provider says otherwise.
  s.wrong = append(s.wrong, CHECK_ENTRY, check, HOUR, now, c.entries_max)
  -- Kept per recipient, not per challenge: the provider may use one code for several challenges in turn.
  call('ZADD', keys[2], decimal(now), check .. challenge.sid)
  call('ZREMRANGEBYSCORE', keys[2], '-inf', decimal(now - DAY))
  call('PEXPIRE', keys[2], decimal(DAY))
  write_challenge(c, keys[1], s, challenge, now)
  return 'a' .. challenge.sid
end

-- Provider check, second half: the provider's answer decides. A code is verified only once.
-- KEYS     recipient, possible checks
-- ARGV     settings; c8 check, then the purpose; answer: right|found|wrong|not_compared
--          found: the answer was lost, and the provider shows that a right code was checked, perhaps by another check
-- Answers  a verdict
local function finish_provider_check(keys, args)
  local c = settings_of(args[1])
  local check, purpose_at = read('>c8', args[2])
  local answer, now = args[3], clock(c.test_time)
  local our_sid, other_sids = nil, {}
  for _, possible in ipairs(call('ZRANGE', keys[2], 0, -1)) do
    local sid = sub(possible, 9)
    if sub(possible, 1, 8) == check then our_sid = sid else other_sids[sid] = true end
  end
  if our_sid and (answer == 'wrong' or answer == 'not_compared') then call('ZREM', keys[2], check .. our_sid) end

  local value = call('GET', keys[1])
  if not value then return answer == 'not_compared' and '-' or 'n' end
  local s = read_recipient(keys[1], value)
  -- Not a wrong attempt, even if the challenge is gone.
  local wrong = s.wrong
  if answer == 'right' or answer == 'not_compared' then s.wrong = without(wrong, CHECK_ENTRY, check) end
  local challenge = pending_challenge(c, s, sub(args[2], purpose_at), now)
  local unfinished_check, place
  if challenge then unfinished_check, place = find_unfinished(challenge, check) end
  local verdict
  if not challenge then
    verdict = answer == 'not_compared' and '-' or 'n'
  elseif challenge.used_by ~= '' then
    verdict = challenge.used_by == check and 'v' or 'u'
  elseif answer == 'wrong' then
    if unfinished_check then table.remove(challenge.unfinished, place) end
    write_challenge(c, keys[1], s, challenge, now)
    return pack('>c1B', 'w', max(0, c.wrong_per_challenge - challenge.checks))
  -- If the challenge does not have this check as unfinished, it is a newer challenge, or this step is a repeat.
  elseif not unfinished_check then
    verdict = answer == 'not_compared' and '-' or 'n'
  end
  -- Found: the provider has seen a right code. It is ours only if no other check of the same SID may have been right. The SID of a
  -- check may be unknown.
  local another_check_may_be_right = our_sid and (other_sids[our_sid] or other_sids[''])
  if not verdict and answer == 'found' and (not our_sid or our_sid == '' or another_check_may_be_right) then return '?' end
  if verdict then
    if s.wrong ~= wrong then write_recipient(keys[1], s, c.window, now) end
    return verdict
  end
  table.remove(challenge.unfinished, place)
  if answer == 'not_compared' then
    challenge.checks, verdict = challenge.checks - 1, '-'
  else
    challenge.used_by, verdict = check, 'v'
    s.wrong = without(s.wrong, CHECK_ENTRY, check)
  end
  write_challenge(c, keys[1], s, challenge, now)
  return verdict
end

-- Reopen: undoes the check that verified a challenge, so that its code can be verified again.
-- KEYS     recipient
-- ARGV     settings; c8 check, then the purpose; key id of codes that the provider made, one of our key ids, digest of the right
--          code under it
-- Answers  r: reopened | u: unchanged (another check, or a new challenge)
local function reopen_challenge(keys, args)
  local c = settings_of(args[1])
  local check, purpose_at = read('>c8', args[2])
  local now = clock(c.test_time)
  local s = read_recipient(keys[1], call('GET', keys[1]))
  local challenge = pending_challenge(c, s, sub(args[2], purpose_at), now)
  if not challenge or challenge.used_by ~= check then return 'u' end
  challenge.used_by, challenge.checks = '', challenge.checks - 1
  -- A provider accepts a code only once, so the next check compares here. With a caller's code, admission continues this
  -- challenge only for a request that brings this same code.
  if challenge.kid == args[3] then challenge.facts = pack(CODE_FACTS, 1, challenge.id, args[5], #args[4], args[4]) end
  write_challenge(c, keys[1], s, challenge, now)
  return 'r'
end

-- Link: records the SID of a challenge's Verification, unless the challenge was replaced.
-- KEYS     recipient
-- ARGV     settings; c16 challenge id, then the purpose; Verification SID
-- Answers  l: linked | r: replaced
local function link_verification(keys, args)
  local c = settings_of(args[1])
  local id, purpose_at = read('>c16', args[2])
  local now = clock(c.test_time)
  local s = read_recipient(keys[1], call('GET', keys[1]))
  local challenge = pending_challenge(c, s, sub(args[2], purpose_at), now)
  if not challenge or challenge.id ~= id then return 'r' end
  challenge.sid = args[3]
  write_challenge(c, keys[1], s, challenge, now)
  return 'l'
end
