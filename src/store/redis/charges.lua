-- Charges before the admission, with more than one shard: the log of a user, an IP or a network is in the shard of its own digest,
-- so admission cannot charge it. It is a sorted set: c17 request and c16 recipient → time. A request is charged first, then admitted;
-- its record lists the charges that it keeps. CHARGES of an answer are those of the record: B 1 if they were refunded, Bc0 charges.
-- A handler removes the other charges that it made for the request, and those that were refunded.
-- A charge that an earlier call made counts anew from now. So at each time the log shows the charge of a record at the record's time or
-- later, even if the handler ends before it corrects that.

function charges.before(charged, is_refunded, answer) return pack('>BBc0', is_refunded and 1 or 0, #charged, charged) .. answer end

function charges.read_outside(packed)
  local outside = {}
  outside.suppressed_until, outside.suppression_code, outside.wait, outside.limit, outside.charges = read('>I6I4I6BHc0', packed)
  return outside
end

-- A step may run late, as at a server that was frozen. A place whose end is over does not count any more.
function charges.expect_place_counts(outside, now)
  for at = 1, #outside.charges, charges.ENTRY_BYTES do
    local kind, _, time = read('>c1c16I6', outside.charges, at)
    if kind == 'a' and time <= now then error({err = 'TRYAGAIN the place has ended'}) end
  end
end

-- The time until a log allows one more charge.
function charges.time_until_allowed(key, count, window, now)
  local blocking = call('ZRANGE', key, -count, -count, 'WITHSCORES')[2]
  return blocking and max(0, parse_time(blocking) + window - now) or 0
end

-- Charge: adds a request to a log, unless that is full. One that an earlier call added counts from now.
-- KEYS     log
-- ARGV     settings; I4 count, I6 window of the limit; member
-- Answers  m TIME: made (I6) | l MS: limited for this long
function charges.charge(keys, args)
  local now, key, member = clock(settings_of(args[1]).test_time), keys[1], args[3]
  local count, window = read('>I4I6', args[2])
  local earlier = call('ZSCORE', key, member)
  if not earlier or parse_time(earlier) <= now - window then
    local left = charges.time_until_allowed(key, count, window, now)
    if left > 0 then return pack('>c1I6', 'l', left) end
  end
  -- A clock that went back does not put a charge before an earlier one.
  local newest = call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  local time = max(now, newest and parse_time(newest) or 0)
  call('ZADD', key, decimal(time), member)
  call('ZREMRANGEBYSCORE', key, '-inf', decimal(now - window))
  call('PEXPIRE', key, decimal(time - now + window))
  return pack('>c1I6', 'm', time)
end

-- Correction: makes a log agree with the record of a request. Can be repeated.
-- KEYS     log
-- ARGV     settings; I6 time of the charge in the record (0: it has none), I6 window of the limit; member
-- Answers  c: corrected
function charges.correct_charge(keys, args)
  local now, key, member = clock(settings_of(args[1]).test_time), keys[1], args[3]
  local time, window = read('>I6I6', args[2])
  if time == 0 or time <= now - window then
    call('ZREM', key, member)
  else
    -- A refund may have removed it meanwhile.
    call('ZADD', key, 'XX', decimal(time), member)
    call('PEXPIRE', key, decimal(max(time - now, 0) + window))
  end
  return 'c'
end

-- Wait: reads for how long a log refuses charges.
-- KEYS     log
-- ARGV     settings; I4 count, I6 window of the limit
-- Answers  I6 time until it allows one more
function charges.charge_wait(keys, args)
  local count, window = read('>I4I6', args[2])
  return pack('>I6', charges.time_until_allowed(keys[1], count, window, clock(settings_of(args[1]).test_time)))
end
