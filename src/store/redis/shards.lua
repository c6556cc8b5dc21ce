-- Steps for more than one shard. A recipient is in the shard of the first digits of its digest, with all keys that a step about it
-- needs. Outside the shards, at REDIS_PREFIX alone, are kill, log-level, workers, primary, format, the leased blocks, and
-- {P}:countries: a hash of the suppressed countries, each I4 provider code, I6 end. Each worker keeps a copy of it.

-- Country suppression: begins, or goes on until a later end.
-- KEYS     {P}:countries
-- ARGV     settings; I4 provider code, I6 duration (NO_END: without end), then the country
-- Answers  as `suppressed_countries`
function countries.suppress_country(keys, args)
  local now, key = clock(settings_of(args[1]).test_time), keys[1]
  local code, duration, country_at = read('>I4I6', args[2])
  local country, till = sub(args[2], country_at), duration == NO_END and NO_END or now + duration
  local latest, kept, words = till, {country, pack('>I4I6', code, till)}, call('HGETALL', key)
  for i = 1, #words, 2 do
    local _, its_end = read_country(key, words[i + 1])
    if words[i] == country and its_end >= till then return countries.suppressed_countries(keys, args) end
    if its_end > now and words[i] ~= country then
      kept[#kept + 1], kept[#kept + 2] = words[i], words[i + 1]
      latest = max(latest, its_end)
    end
  end
  -- Anew, without those that have ended.
  call('DEL', key)
  call('HSET', key, unpack(kept))
  if latest ~= NO_END then call('PEXPIRE', key, decimal(latest - now)) end
  return countries.suppressed_countries(keys, args)
end

-- Suppressed countries: reads them, and makes sure that what all requests need beside them can be read.
-- KEYS     {P}:countries, and unless they change {P}:b, {P}:g
-- ARGV     settings
-- Answers  of each: Bc0 country, I4 provider code, I6 end
function countries.suppressed_countries(keys, args)
  local now, key, listed = clock(settings_of(args[1]).test_time), keys[1], {}
  if keys[2] then places.check(keys[2], keys[3]) end
  local words = call('HGETALL', key)
  for i = 1, #words, 2 do
    local code, till = read_country(key, words[i + 1])
    if till > now then listed[#listed + 1] = pack('>Bc0I4I6', #words[i], words[i], code, till) end
  end
  return table.concat(listed)
end

-- Server: compares the server of a shard with the last one.
-- KEYS     primary, of the shard
-- ARGV     settings; run id that the worker knows or '-', for how long a new server may have lost writes
-- Answers  for how long it may still have lost writes, run id
function shards.check_server(keys, args)
  local now = clock(settings_of(args[1]).test_time)
  local left, run_id = shards.note_server(keys[1], args[2], args[3], now)
  return decimal(left) .. ' ' .. run_id
end

-- Due receipts: counts the messages of a shard to poll for.
-- KEYS     due, of the shard
-- ARGV     settings
-- Answers  their number
function shards.count_due(keys, args)
  local now, prefix, count = clock(settings_of(args[1]).test_time), sub(keys[1], 1, -1 - #'due'), 0
  for _, minute in ipairs(call('ZRANGE', keys[1], '-inf', decimal(floor(now / 60000)), 'BYSCORE', 'LIMIT', 0, 100)) do
    count = count + call('LLEN', prefix .. 'r' .. minute)
  end
  return decimal(count)
end

-- Shard data: reads what the requests of a shard share. Fails at the first key that cannot be read.
-- KEYS     due and suppressed, of the shard
-- Answers  r: readable
function shards.check_shard_data(keys)
  for _, key in ipairs(keys) do call('ZCARD', key) end
  return 'r'
end
