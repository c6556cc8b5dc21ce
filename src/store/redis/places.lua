-- Places under the cap over all sends, only with more than one shard: a worker leases a block of places by one call, and takes them
-- without a call. All its uses of a block happen before the block's end, and its places count until the window after that end is
-- over. So no window has more uses than the cap.
--   {P}:b  blocks, earliest end first: I6 end, c8 block id, I4 places, I4 refunds each
--   {P}:g  sorted set of the requests whose place was refunded: c17 request, c16 recipient → end of the block of the place
-- Of blocks with the same end the refunds count together: a refund names only the end.
local places = {
  ENTRY = '>I6c8I4I4', ENTRY_BYTES = 22,
  -- An end is a multiple of this, so that old blocks can become one.
  END_STEP = 10000,
  -- A block is given back, or its lease repeated, within this after its end.
  RETURNED_WITHIN = 30000,
  OLD = '\0\0\0\0\0\0\0\0',
}

function places.packed(key)
  local packed = call('GET', key) or ''
  if #packed % places.ENTRY_BYTES ~= 0 then error('the blocks cannot be read') end
  return packed
end

-- Fails at the first key that cannot be read.
function places.check(blocks_key, refunded_key)
  places.packed(blocks_key)
  call('ZCARD', refunded_key)
end

-- The blocks whose places count, and the sum of these.
function places.read(key, window, now)
  local packed, blocks, used = places.packed(key), {}, 0
  for at = 1, #packed, places.ENTRY_BYTES do
    local block = {}
    block.till, block.id, block.count, block.refunds = read(places.ENTRY, packed, at)
    if block.till + window > now then
      blocks[#blocks + 1] = block
      used = used + block.count - block.refunds
    end
  end
  return blocks, used
end

function places.write(key, blocks, window, now)
  local kept = {}
  for _, block in ipairs(blocks) do
    local last = kept[#kept]
    if block.till + places.RETURNED_WITHIN <= now then block.id = places.OLD end
    if last and last.id == places.OLD and block.id == places.OLD and last.till == block.till then
      last.count, last.refunds = last.count + block.count, last.refunds + block.refunds
    elseif block.count > 0 or block.refunds > 0 then
      kept[#kept + 1] = block
    end
  end
  if #kept == 0 then return call('DEL', key) end
  local last = kept[#kept].till
  for i, block in ipairs(kept) do kept[i] = pack(places.ENTRY, block.till, block.id, block.count, block.refunds) end
  call('SET', key, table.concat(kept), 'PX', decimal(last + window - now))
end

-- The time until a place is free, if the worker's blocks are all used up.
function places.wait(blocks, used, cap, window, now)
  if used < cap then return 0 end
  for _, block in ipairs(blocks) do
    used = used - block.count + block.refunds
    if used < cap then return block.till + window - now end
  end
  return window
end

-- Lease of places: first gives back what is not used of earlier blocks. A repeated call with the same block id gets the same answer.
-- KEYS     {P}:b
-- ARGV     settings; call: c8 block id, I4 places wanted (0: it only gives back), I4 valid for, I4 cap, I6 window, then of each block
--          that is given back: c8 block id, I4 places used of it
-- Answers  g COUNT END: leased (I4, I6) | w MS: no place is free for this long (I6) | r: only given back
function places.lease(keys, args)
  local id, wanted, valid_for, cap, window, at = read('>c8I4I4I4I6', args[2])
  local now = clock(settings_of(args[1]).test_time)
  local blocks, used = places.read(keys[1], window, now)
  local returned, own = {}, nil
  while at <= #args[2] do
    local block_id, count
    block_id, count, at = read('>c8I4', args[2], at)
    returned[block_id] = count
  end
  local is_changed = false
  for _, block in ipairs(blocks) do
    local count = returned[block.id]
    if count and count < block.count then
      used, block.count, is_changed = used - block.count + count, count, true
    end
    if block.id == id and block.count > 0 then own = block end
  end
  local answer = 'r'
  if own then
    answer = pack('>c1I4I6', 'g', own.count, own.till)
  elseif wanted > 0 and used >= cap then
    answer = pack('>c1I6', 'w', places.wait(blocks, used, cap, window, now))
  elseif wanted > 0 then
    own = {id = id, count = min(wanted, cap - used), refunds = 0}
    own.till = ceil((now + valid_for) / places.END_STEP) * places.END_STEP
    local place = #blocks + 1
    while place > 1 and blocks[place - 1].till > own.till do place = place - 1 end
    table.insert(blocks, place, own)
    answer, is_changed = pack('>c1I4I6', 'g', own.count, own.till), true
  end
  if is_changed then places.write(keys[1], blocks, window, now) end
  return answer
end

-- Refund of a place, once for each request. A place that does not count any more needs none.
-- KEYS     {P}:b, {P}:g
-- ARGV     settings; I6 end of the block of the place, I6 window; c17 request and c16 recipient
-- Answers  r: refunded, by this call or an earlier one, or not counted
function places.refund(keys, args)
  local till, window = read('>I6I6', args[2])
  local now = clock(settings_of(args[1]).test_time)
  call('ZREMRANGEBYSCORE', keys[2], '-inf', decimal(max(0, now - window)))
  if till + window <= now then return 'r' end
  local blocks = places.read(keys[1], window, now)
  for _, block in ipairs(blocks) do
    if block.till == till then
      if call('ZADD', keys[2], 'NX', decimal(till), args[3]) == 0 then return 'r' end
      call('PEXPIRE', keys[2], decimal(window + HOUR))
      block.refunds = block.refunds + 1
      places.write(keys[1], blocks, window, now)
      return 'r'
    end
  end
  return 'r'
end

-- Free places: reads when one is free.
-- KEYS     {P}:b
-- ARGV     settings; I4 cap, I6 window
-- Answers  I6 the time until then
function places.free(keys, args)
  local cap, window = read('>I4I6', args[2])
  local now = clock(settings_of(args[1]).test_time)
  local blocks, used = places.read(keys[1], window, now)
  return pack('>I6', places.wait(blocks, used, cap, window, now))
end
