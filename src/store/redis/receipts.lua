-- Receipt: records a status that the provider reports, if it adds something to the record.
-- KEYS     recipient, request, country whose suppression begins (or any key)
-- ARGV     settings; call: B rank of the status, B status, B is final, B was published (the delivery event was published before),
--          I4 provider code (0: none); message id (empty if the store cannot keep it: then no request); suppression as in a
--          completion, or empty
-- Answers  p PURPOSE HISTORY: publish the delivery event of a request in progress (Bc0, rest) | e COMPLETION: of a completed one
--          k: nothing to publish | n: no request (it has no record)
-- DELIVERED and READ: the message arrived.
local DELIVERED, READ = 5, 9

local function record_receipt(keys, args)
  local c = settings_of(args[1])
  local rank, status, is_final, published, code = read('>BBBBI4', args[2])
  local message_id, suppression = args[3], args[4]
  local now, prefix, recipient = clock(c.test_time), prefix_of(keys[1]), sub(keys[1], -16)
  local line, key = nil, nil
  if message_id ~= '' then line, key = find_record(keys[2], call('GET', keys[2]), recipient) end
  -- Without a record a repeat cannot be recognised, so nothing is suppressed.
  if not line then return 'n' end
  local state, _, kept_until, receipt, rest = read_head(line)
  if kept_until <= now then return 'n' end
  local its_id, its_rank, its_status, was_published, its_code, its_time, strength = nil, 0, 0, 0, 0, 0, 0
  if receipt ~= '' then its_id, its_rank, its_status, was_published, its_code, its_time, strength = read(RECEIPT, receipt) end
  -- The last field of a receipt is its suppression strength: 0 it has not suppressed, 1 for a time, 2 without an end. A receipt
  -- suppresses only if that grows: a repeated one must not undo an operator's removal.
  local new_strength, target, its_suppression, duration, masked = 0, nil, nil, nil, nil
  if suppression ~= '' then
    target, its_suppression, duration, masked = read('>BI4I6', suppression)
    new_strength = duration == NO_END and 2 or 1
  end
  local is_stronger = new_strength > strength
  if is_stronger then
    strength = new_strength
    if target == 2 then
      suppress_country(keys[3], its_suppression, duration, now)
    else
      local s = read_recipient(keys[1], call('GET', keys[1]))
      if suppress_recipient(prefix, recipient, s, its_suppression, duration, now, sub(suppression, masked)) then
        write_recipient(keys[1], s, c.window, now)
      end
    end
  end
  local function write(...)
    local new, after = pack(RECEIPT, ...), sub(line, rest)
    -- The first 31 bytes of a record stand before its receipt.
    call('SET', key, pack(SEAL, VERSION, 33 + #new + #after) .. sub(line, SEALED, SEALED + 30) .. pack('>H', #new) .. new .. after, 'KEEPTTL')
  end

  published = published == 1 and is_final == 1 and 1 or 0
  -- After a resend a request may have two messages. The receipt of the one that arrived replaces the other's.
  local function arrived(which) return which == DELIVERED or which == READ end
  local other_arrived = its_id and arrived(status) and its_id ~= message_id and not arrived(its_status)
  if not its_id or other_arrived or its_rank < rank then
    write(#message_id, message_id, rank, status, published, code, now, strength)
  else
    local is_unpublished_repeat = its_status == status and was_published == 0
    if is_unpublished_repeat and published == 1 then
      write(#its_id, its_id, its_rank, its_status, 1, its_code, its_time, strength)
    elseif is_stronger then
      write(#its_id, its_id, its_rank, its_status, was_published, its_code, its_time, strength)
    end
    if not is_unpublished_repeat then return 'k' end
  end
  if is_final ~= 1 or published == 1 then return 'k' end
  if state == COMPLETED then return 'e' .. sub(line, rest) end
  local r = read_progress(line, recipient)
  return pack('>c1Bc0', 'p', #r.purpose, r.purpose) .. r.history
end

-- Overdue receipts: takes messages to poll for, and schedules the next poll so that the time since the send doubles. After the
-- longest wait it is the shortest interval.
-- KEYS     the minutes that have messages
-- ARGV     settings; I6 longest wait since the send, I4 how many at most, I4 shortest interval between two polls, B least rank of
--          a final status
-- Answers  of each: B lapsed (1: the longest wait is over, and no final receipt waits for its event to be published), c16
--          recipient, c17 request, Bc0 text of its id (empty for a UUID), Hc0 message id, I6 time of the send
local function overdue_receipts(keys, args)
  local c = settings_of(args[1])
  local wait_max, count_max, interval_min, final_rank_min = read('>I6I4I4B', args[2])
  local now, prefix, overdue, taken = clock(c.test_time), sub(keys[1], 1, -4), {}, {}
  for _, minute in ipairs(call('ZRANGE', keys[1], '-inf', decimal(now / 60000 - now % 60000 / 60000), 'BYSCORE', 'LIMIT', 0, 100)) do
    if #taken >= count_max then break end
    local bucket = prefix .. 'r' .. minute
    for _, entry in ipairs(call('LPOP', bucket, count_max - #taken) or {}) do taken[#taken + 1] = entry end
    if call('EXISTS', bucket) == 0 then call('ZREM', keys[1], minute) end
  end
  for _, entry in ipairs(taken) do
    -- A message is not polled for if its entry or its record cannot be read.
    pcall(function()
      local _
      local sent_at, recipient, request = read('>I6c16c17', entry)
      local name = prefix .. 'q' .. request
      local line = find_record(name, call('GET', name), recipient)
      if not line then return end
      local state, _, kept_until, receipt, rest = read_head(line)
      -- The record may be of a later request with the same id.
      local kept_for = kept_until - sent_at
      if kept_until <= now or kept_for ~= c.outcome_kept and kept_for ~= c.rejection_kept then return end
      local its_rank, was_published = 0, 0
      if receipt ~= '' then _, its_rank, _, was_published = read(RECEIPT, receipt) end
      if was_published == 1 then return end
      local text = request_text(prefix, request)
      if not text then return end
      local waited = max(0, now - sent_at)
      local is_over = waited >= wait_max
      local lapsed = is_over and its_rank < final_rank_min and 1 or 0
      local _, message_id = read(COMPLETION, line, rest)
      expect_receipt(prefix, recipient, request, sent_at, now + (is_over and interval_min or max(waited, interval_min)), now)
      overdue[#overdue + 1] = pack('>Bc16c17Bc0Hc0I6', lapsed, recipient, request, #text, text, #message_id, message_id, sent_at)
    end)
  end
  return table.concat(overdue)
end

-- End of a wait: drops a message whose receipt lapsed. It is due again within minutes.
-- KEYS     the minutes that have messages
-- ARGV     settings; the entry of the message
-- Answers  e: ended
local function end_receipt_wait(keys, args)
  local prefix, now = sub(keys[1], 1, -4), clock(settings_of(args[1]).test_time)
  for _, minute in ipairs(call('ZRANGE', keys[1], '-inf', decimal(now / 60000 + 3), 'BYSCORE')) do
    if call('LREM', prefix .. 'r' .. minute, 0, args[2]) > 0 then break end
  end
  return 'e'
end
