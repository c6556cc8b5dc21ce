-- Panics: counts the panic of a handler, once for its lease token, and ends its lease. With a given number of panics the lease stays, and
-- no more are counted. {P}:pQR holds the panics of a request: I6 kept until, then c8 lease token of each panicked handler.
-- KEYS     recipient, request, panics
-- ARGV     settings; call: c8 lease token, B the handler may have sent a message, H the number of panics with which the lease stays, I4
--          how long the panics are kept
-- Answers  H panics, B the handler has the lease and no message can have been sent, H attempts made
local function count_panic(keys, args)
  local c = settings_of(args[1])
  local token, may_have_sent, panics_max, kept = read('>c8BHI4', args[2])
  local now = clock(c.test_time)
  local recipient = sub(keys[1], -16)
  local stored, tokens = call('GET', keys[3]), ''
  if stored then
    if #stored % 8 ~= 6 then error('panics cannot be read') end
    if read('>I6', stored) > now then tokens = sub(stored, 7) end
  end
  local record, key = find_record(keys[2], call('GET', keys[2]), recipient)
  local r
  if record then
    local state, lease_token, kept_until = read_common(record)
    if kept_until > now and state ~= COMPLETED and lease_token == token then r = read_progress(record, recipient) end
  end
  local is_counted = false
  for at = 1, #tokens, 8 do is_counted = is_counted or sub(tokens, at, at + 7) == token end
  if not is_counted and #tokens / 8 < panics_max then
    tokens = tokens .. token
    call('SET', keys[3], pack('>I6', now + kept) .. tokens, 'PX', decimal(kept))
  end
  local panics, is_unsent, attempts = #tokens / 8, 0, 0
  if r then
    if r.state == SENDING and may_have_sent == 1 then
      mark_in_doubt(r)
    elseif r.state == SENDING then
      -- The attempt that the record counts was not made.
      r.state, r.attempts_started = WAITING, r.attempts_started - 1
    end
    if panics < panics_max then
      r.lease_token, r.unfinished_leases, r.busy_until = NO_LEASE, max(0, r.unfinished_leases - 1), now
    elseif r.state == WAITING and r.attempts_in_doubt == 0 then
      is_unsent, attempts = 1, r.attempts_started
    end
    call('SET', key, pack_progress(r), 'KEEPTTL')
  end
  return pack('>HBH', panics, is_unsent, attempts)
end
