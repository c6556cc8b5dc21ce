-- Texts that the provider is still to delete.
--
-- {P}:jj, a hash: recipient → a job: I6 begun, I6 changed, I4 total, I4 done, I4 failed, B listing; the empty field: I6 when messages may be
-- taken again. {P}:jq, a sorted set: recipient and message id → when the message is due. {P}:jn, a hash: recipient → how many of the failed
-- ones the account does not have; apart, as earlier versions read a job of 25 bytes only.
reports.redactions = {JOB = '>I6I6I4I4I4B', JOB_BYTES = 25}

function reports.redactions.job(key, recipient)
  local value = call('HMGET', key, recipient)[1]
  if not value then return nil end
  if #value ~= reports.redactions.JOB_BYTES then error('a job cannot be read') end
  local job = {}
  job.begun, job.changed, job.total, job.done, job.failed, job.listing = read(reports.redactions.JOB, value)
  return job
end

function reports.redactions.not_found_key(key) return sub(key, 1, -2) .. 'n' end

-- The number of messages of a job that the account does not have: at most the failed ones, as an earlier version may begin a job anew.
function reports.redactions.not_found(key, recipient, failed)
  local count = call('HMGET', reports.redactions.not_found_key(key), recipient)[1]
  return count and min(failed, parse_time(count)) or 0
end

function reports.redactions.write(key, recipient, job, now)
  call('HSET', key, recipient, pack(reports.redactions.JOB, job.begun, now, job.total, job.done, job.failed, job.listing))
end

-- Removes the jobs that have not changed for a time. Answers the number of the others.
function reports.redactions.sweep(key, kept, now)
  local words, count = call('HGETALL', key), 0
  for i = 1, #words, 2 do
    if #words[i] == 16 and #words[i + 1] == reports.redactions.JOB_BYTES and select(2, read('>I6I6', words[i + 1])) + kept > now then
      count = count + 1
    elseif words[i] ~= '' then
      call('HDEL', key, words[i])
      call('HDEL', reports.redactions.not_found_key(key), words[i])
    end
  end
  return count
end

-- Adds messages to the job of a recipient.
-- KEYS     jj, jq
-- ARGV     settings; I4 jobs at most, I4 messages of a job at most, I6 how long a job is kept, c16 recipient, B listing, then each Bc0
--          message id
-- Answers  a: added | f: there are too many jobs
function reports.redactions.add(keys, args)
  local now = clock(settings_of(args[1]).test_time)
  local jobs_max, messages_max, kept, recipient, listing, at = read('>I4I4I6c16B', args[2])
  local count, job = reports.redactions.sweep(keys[1], kept, now), reports.redactions.job(keys[1], recipient)
  if not job and count >= jobs_max then return 'f' end
  local is_finished = not job or job.done + job.failed >= job.total
  -- A job begins while its listing is pending, or if there is none; the end of the listing adds to it.
  if not job or is_finished and (listing == 0 or listing == 4) then
    job = {begun = now, total = 0, done = 0, failed = 0}
    call('HDEL', reports.redactions.not_found_key(keys[1]), recipient)
  end
  job.listing = listing
  while at <= #args[2] do
    local message_id
    message_id, at = read('>Bc0', args[2], at)
    if job.total < messages_max then
      job.total = job.total + call('ZADD', keys[2], 'NX', decimal(now), recipient .. message_id)
    end
  end
  reports.redactions.write(keys[1], recipient, job, now)
  for _, key in ipairs(keys) do call('PEXPIRE', key, decimal(kept)) end
  return 'a'
end

-- Takes messages that are due. They are due again after a time, unless they are ended.
-- KEYS     jj, jq
-- ARGV     settings; I4 how many at most, I4 time until messages may be taken again, I4 time until these are due again
-- Answers  of each: c16 recipient, Bc0 message id
function reports.redactions.take(keys, args)
  local now = clock(settings_of(args[1]).test_time)
  local count_max, pause, lease = read('>I4I4I4', args[2])
  local next_at = call('HMGET', keys[1], '')[1]
  if next_at and read('>I6', next_at) > now then return '' end
  local due, answer = call('ZRANGE', keys[2], '-inf', decimal(now), 'BYSCORE', 'LIMIT', 0, count_max), {}
  if #due == 0 then return '' end
  call('HSET', keys[1], '', pack('>I6', now + pause))
  for _, member in ipairs(due) do
    call('ZADD', keys[2], 'XX', decimal(now + lease), member)
    answer[#answer + 1] = sub(member, 1, 16) .. pack('>Bc0', #member - 16, sub(member, 17))
  end
  return table.concat(answer)
end

-- Ends the work on a message. Without its job it goes.
-- KEYS     jj, jq
-- ARGV     settings; c1 end (d: done, n: not found, l: later), I4 wait, I6 how long a message is tried, c16 recipient, then the message id
-- Answers  e: ended
function reports.redactions.finish(keys, args)
  local now = clock(settings_of(args[1]).test_time)
  local finish, wait, tried_for, recipient, id_at = read('>c1I4I6c16', args[2])
  local job, member = reports.redactions.job(keys[1], recipient), recipient .. sub(args[2], id_at)
  if finish == 'l' and job and job.begun + tried_for > now then
    call('ZADD', keys[2], 'XX', decimal(now + wait), member)
  elseif call('ZREM', keys[2], member) == 1 and job then
    if finish == 'd' then job.done = job.done + 1 else job.failed = job.failed + 1 end
    if finish == 'n' then
      local key = reports.redactions.not_found_key(keys[1])
      call('HSET', key, recipient, decimal(reports.redactions.not_found(keys[1], recipient, job.failed) + 1))
      call('PEXPIRE', key, decimal(30 * DAY))
    end
    reports.redactions.write(keys[1], recipient, job, now)
  end
  return 'e'
end

-- Jobs: reads them.
-- KEYS     jj
-- ARGV     settings; I6 how long a job is kept
-- Answers  of each: c16 recipient, I6 begun, I4 total, I4 done, I4 failed, I4 of these not found, B listing
function reports.redactions.jobs(keys, args)
  local now, kept = clock(settings_of(args[1]).test_time), read('>I6', args[2])
  local words, answer = call('HGETALL', keys[1]), {}
  for i = 1, #words, 2 do
    if #words[i] == 16 then
      if #words[i + 1] ~= reports.redactions.JOB_BYTES then error('a job cannot be read') end
      local begun, changed, total, done, failed, listing = read(reports.redactions.JOB, words[i + 1])
      if changed + kept > now then
        local not_found = reports.redactions.not_found(keys[1], words[i], failed)
        answer[#answer + 1] = words[i] .. pack('>I6I4I4I4I4B', begun, total, done, failed, not_found, listing)
      end
    end
  end
  return table.concat(answer)
end
