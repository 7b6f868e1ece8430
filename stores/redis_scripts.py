"""The Lua scripts of the Redis store, each one atomic step.

Batches come and go as one text each, for the client packs each argument and parses each part of
an answer in Python. Numbers in JSON are texts, for Lua's are doubles.
"""

from __future__ import annotations

from hashlib import sha1

__all__ = ["Script"]

_PRELUDE = r"""
local jobs, due, state, runs, again, members, meta = unpack(KEYS)

local function text(number)
  return string.format('%.0f', number)
end

-- The instant that decides: the one given, or the server's.
local function instant(given)
  if given ~= '' then
    return tonumber(given)
  end
  local now = redis.call('TIME')
  return now[1] * 1000000 + now[2]
end

-- A command with any number of arguments: unpack takes no more than 8000.
local function many(command, key, values)
  for first = 1, #values, 4000 do
    redis.call(command, key, unpack(values, first, math.min(first + 3999, #values)))
  end
end

local function fetch(key, fields)
  if #fields <= 4000 then
    return redis.call('HMGET', key, unpack(fields))
  end
  local found = {}
  for first = 1, #fields, 4000 do
    local last = math.min(first + 3999, #fields)
    for _, value in ipairs(redis.call('HMGET', key, unpack(fields, first, last))) do
      found[#found + 1] = value
    end
  end
  return found
end

-- A number that was never given before, for the fences and versions of one step.
local function draw()
  return string.format('%016.0f', redis.call('HINCRBY', meta, 'counter', 1))
end

-- What replicas are waited for is the last write of a connection: make one.
local function touch()
  draw()
end

local function earliest()
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  return first[2]
end

-- Wake the others if something is due earlier than all was before.
local function announce(before, channel, sender)
  local after = earliest()
  if after and (not before or tonumber(after) < tonumber(before)) then
    redis.pcall('PUBLISH', channel, sender) -- which may be forbidden
  end
end

-- A state is "fence version next". The first two have 16 digits; the fence is 0 unless the job is
-- claimed. The next run time is empty when the job is paused.
local FREE = '0000000000000000'

local function read(stored)
  return string.sub(stored, 1, 16), string.sub(stored, 18, 33), string.sub(stored, 35)
end

local function forget(ids)
  many('HDEL', jobs, ids)
  many('HDEL', state, ids)
  many('ZREM', due, ids)
end

-- The runs of a job are lines "fence member call mode times". The mode is 1 for at most once, +
-- for at least once, - when the job was removed meanwhile. The times have commas between them.
local LINE = '^(%d+) (%S+) (%d+) (%S) (%S+)$'

local function lines(stored)
  return string.gmatch(stored or '', '[^\n]+')
end

-- The lines of jobs. Often nothing runs at all.
local function running_of(ids)
  return redis.call('HLEN', runs) == 0 and {} or fetch(runs, ids)
end

local function write_lines(id, kept)
  if #kept == 0 then
    redis.call('HDEL', runs, id)
  else
    redis.call('HSET', runs, id, table.concat(kept, '\n'))
  end
end
"""


class Script:
    """A script, and the digest by which the server knows it once it has seen it."""

    def __init__(self, body: str) -> None:
        self.text = _PRELUDE + body
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


#: ARGV: the version of the layout, and 1 to create what is missing. Gives the version and the key
#: of the run times that are stored; or "missing"; or "occupied", a key, and what is there.
OPEN = Script(r"""
local version = redis.call('HGET', meta, 'version')
if version then
  return {version, redis.call('HGET', meta, 'run_times_key')}
end
for _, key in ipairs({jobs, due}) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' then
    return {'occupied', key, kind}
  end
end
if ARGV[2] == '0' then
  return {'missing'}
end
redis.call('HSET', meta, 'version', ARGV[1], 'run_times_key', due)
return {ARGV[1], due}
""")

#: ARGV: id. Gives the state and the record.
ROW = Script(r"""
return {redis.call('HGET', state, ARGV[1]), redis.call('HGET', jobs, ARGV[1])}
""")

#: ARGV: a cursor, and about how many rows to give. Gives the next cursor, and ids with what `ROW`
#: gives.
ROWS = Script(r"""
local page = redis.call('HSCAN', jobs, ARGV[1], 'COUNT', ARGV[2])
local ids, records = {}, {}
for i = 1, #page[2], 2 do
  ids[#ids + 1], records[#records + 1] = page[2][i], page[2][i + 1]
end
local found = {}
if #ids > 0 then
  for i, stored in ipairs(fetch(state, ids)) do
    found[i] = {ids[i], stored, records[i]}
  end
end
return cjson.encode({page[1], found})
""")

#: ARGV: 1 to replace, channel, sender, rows of id, next run time and record. Gives a digit for
#: each row, 1 if it replaced one; or an array with the id that was taken.
INSERT = Script(r"""
local rows, ids, seen, told = cjson.decode(ARGV[4]), {}, {}, {}
for i, row in ipairs(rows) do
  ids[i] = row[1]
end
for i, stored in ipairs(fetch(state, ids)) do
  local taken = stored or seen[ids[i]]
  if taken and ARGV[1] == '0' then
    return {ids[i]}
  end
  seen[ids[i]] = true
  told[i] = taken and '1' or '0'
end
local before, version = earliest(), draw()
local records, states, times = {}, {}, {}
for i, row in ipairs(rows) do
  local id, next = row[1], row[2]
  records[2 * i - 1], records[2 * i] = id, row[3]
  states[2 * i - 1], states[2 * i] = id, FREE .. ' ' .. version .. ' ' .. next
  if next == '' then
    times[id] = nil
  else
    times[id] = next
  end
end
many('HSET', jobs, records)
many('HSET', state, states)
local scores, paused = {}, {}
for id in pairs(seen) do
  if times[id] then
    scores[#scores + 1], scores[#scores + 2] = times[id], id
  else
    paused[#paused + 1] = id
  end
end
many('ZADD', due, scores)
many('ZREM', due, paused)
announce(before, ARGV[2], ARGV[3])
return table.concat(told)
""")

#: ARGV: id, version, record, 1 if the next run time is written too, that, channel, sender.
REPLACE = Script(r"""
local id = ARGV[1]
local stored = redis.call('HGET', state, id)
if not stored then
  return 0
end
local fence, version, next = read(stored)
if version ~= ARGV[2] then
  return 0
end
local before = earliest()
if ARGV[4] == '1' then
  fence, next = FREE, ARGV[5]
  if next == '' then
    redis.call('ZREM', due, id)
  else
    redis.call('ZADD', due, next, id)
  end
end
redis.call('HSET', jobs, id, ARGV[3])
redis.call('HSET', state, id, fence .. ' ' .. draw() .. ' ' .. next)
announce(before, ARGV[6], ARGV[7])
return 1
""")

#: ARGV: id.
DELETE = Script(r"""
local id, kept = ARGV[1], {}
local found = redis.call('HDEL', state, id) + redis.call('HDEL', jobs, id)
redis.call('ZREM', due, id)
for line in lines(redis.call('HGET', runs, id)) do
  local fence, member, call, mode, times = string.match(line, LINE)
  if mode == '+' then
    redis.call('HDEL', again, fence .. ' ' .. id)
    line = fence .. ' ' .. member .. ' ' .. call .. ' - ' .. times
  end
  kept[#kept + 1] = line
end
write_lines(id, kept)
return found
""")

DELETE_ALL = Script(r"""
redis.call('DEL', jobs, due, state, runs, again)
""")

#: ARGV: now, member, lease, limit. Gives a line of numbers: now, the fence, and of each row its
#: version, next run time, number of instances elsewhere, and the lengths of its id and its record;
#: then all ids in one text, and all records in some: Lua's buffer holds 8192 bytes, and longer
#: texts are hashed more than once on their way.
CLAIM = Script(r"""
local now, me = instant(ARGV[1]), ARGV[2]
local ids = redis.call('ZRANGEBYSCORE', due, '-inf', text(now), 'LIMIT', 0, ARGV[4])
if #ids == 0 then
  return {text(now) .. ' 0', ''}
end
local stored, records, running = fetch(state, ids), fetch(jobs, ids), running_of(ids)
local ends, fence = text(now + ARGV[3]), draw()
local states, scores, head, sizes = {}, {}, {text(now), fence}, {}
-- To write a number takes longer than to find it, and most are written many times.
local function size_of(value)
  local written = sizes[#value]
  if not written then
    written = tostring(#value)
    sizes[#value] = written
  end
  return written
end
for i = 1, #ids do
  local id = ids[i]
  local rest = string.sub(stored[i] or '', 17)
  if not string.find(rest, '^ %d+ %-?%d+$') then
    -- Lost or spoilt by others; somebody has to look at it nevertheless.
    rest = ' ' .. FREE .. ' ' .. text(tonumber(redis.call('ZSCORE', due, id)))
  end
  local elsewhere = '0'
  if running[i] then
    local count = 0
    for line in lines(running[i]) do
      local _, member = string.match(line, LINE)
      count = count + (member == me and 0 or 1)
    end
    elsewhere = tostring(count)
  end
  local record = records[i] or ''
  records[i] = record
  states[2 * i - 1], states[2 * i] = id, fence .. rest
  scores[2 * i - 1], scores[2 * i] = ends, id
  local at = 4 * i
  head[at - 1], head[at], head[at + 1], head[at + 2] = rest, elsewhere, size_of(id), size_of(record)
end
many('HSET', state, states)
many('ZADD', due, scores)
local answer, first, size = {table.concat(head, ' '), table.concat(ids)}, 1, 0
for i, record in ipairs(records) do
  size = size + #record
  if size > 8000 and i > first then
    answer[#answer + 1] = table.concat(records, '', first, i - 1)
    first, size = i, #record
  end
end
answer[#answer + 1] = table.concat(records, '', first)
return answer
""")

#: ARGV: member, the number of this call, and a list of columns: ids, fences (a text if all have the
#: same one), next run times, times, and records (an empty text if there is none). Gives a digit for
#: each entry, 1 if it was advanced. The same call may be made again.
ADVANCE = Script(r"""
local me, owner = ARGV[1], ' ' .. ARGV[1] .. ' ' .. ARGV[2] .. ' '
local ids, fences, nexts, all_times, copies = unpack(cjson.decode(ARGV[3]))
local same, told = type(fences) == 'string', {}
for i = 1, #ids do
  told[i] = '0'
end
-- Whoever was expelled would record runs that nobody looks after.
if not redis.call('ZSCORE', members, me) then
  return table.concat(told)
end
local stored, running = fetch(state, ids), running_of(ids)
local states, scores, recorded, kept, ended = {}, {}, {}, {}, {}
for i = 1, #ids do
  local id, mine, next, times = ids[i], same and fences or fences[i], nexts[i], all_times[i]
  local record, before = copies == '' and '' or copies[i], stored[i]
  local held = before and string.sub(before, 1, 16) == mine
  if running[i] then
    local line, wanted = mine .. owner, ',' .. times .. ','
    for other in lines(running[i]) do
      if string.sub(other, 1, #line) == line then
        told[i] = '1'
        touch()
      end
      local _, _, _, _, taken = string.match(other, LINE)
      for time in string.gmatch(taken, '[^,]+') do
        if string.find(wanted, ',' .. time .. ',', 1, true) then
          held = false
        end
      end
    end
  end
  if held then
    told[i] = '1'
    local line = mine .. owner .. '1 ' .. times
    if record ~= '' then
      line = mine .. owner .. '+ ' .. times
      kept[#kept + 1], kept[#kept + 2] = mine .. ' ' .. id, record
    end
    if running[i] then
      line = running[i] .. '\n' .. line
    end
    recorded[#recorded + 1], recorded[#recorded + 2] = id, line
    if next == '' then
      ended[#ended + 1] = id
    else
      states[#states + 1], states[#states + 2] = id, FREE .. string.sub(before, 17, 34) .. next
      scores[#scores + 1], scores[#scores + 2] = next, id
    end
  end
end
many('HSET', state, states)
many('ZADD', due, scores)
many('HSET', runs, recorded)
many('HSET', again, kept)
forget(ended)
return table.concat(told)
""")

#: ARGV: id, fence, until.
RELEASE = Script(r"""
local id = ARGV[1]
local stored = redis.call('HGET', state, id)
if stored then
  local fence, version, next = read(stored)
  if fence == ARGV[2] then
    redis.call('HSET', state, id, FREE .. ' ' .. version .. ' ' .. next)
    redis.call('ZADD', due, ARGV[3], id)
  end
end
""")

#: ARGV: now, member, lease. Gives now, and whether the member was there.
RENEW = Script(r"""
local now = instant(ARGV[1])
local known = redis.call('ZADD', members, text(now + ARGV[3]), ARGV[2])
return {now, 1 - known}
""")

#: ARGV: member, entries of id and fence. Gives a digit for each, 1 if the run was the member's.
SETTLE = Script(r"""
local entries, ids, told = cjson.decode(ARGV[2]), {}, {}
for i, entry in ipairs(entries) do
  ids[i] = entry[1]
end
local running, left, kept, ended = fetch(runs, ids), {}, {}, {}
for i, id in ipairs(ids) do
  left[id] = running[i]
end
for i, entry in ipairs(entries) do
  local id, rest = entry[1], {}
  local mine = entry[2] .. ' ' .. ARGV[1] .. ' '
  told[i] = '0'
  for line in lines(left[id]) do
    if string.sub(line, 1, #mine) == mine then
      told[i] = '1'
      local _, _, _, mode = string.match(line, LINE)
      if mode == '+' then
        ended[#ended + 1] = entry[2] .. ' ' .. id
      end
    else
      rest[#rest + 1] = line
    end
  end
  left[id] = table.concat(rest, '\n')
end
local empty, changed = {}, {}
for id, rest in pairs(left) do
  if rest == '' then
    empty[#empty + 1] = id
  elseif rest then
    changed[#changed + 1], changed[#changed + 2] = id, rest
  end
end
many('HDEL', runs, empty)
many('HSET', runs, changed)
many('HDEL', again, ended)
return table.concat(told)
""")

#: ARGV: as `SETTLE`. Gives a digit for each, 1 if the run is recorded as the member's.
RECORDED = Script(r"""
local entries, ids, told = cjson.decode(ARGV[2]), {}, {}
for i, entry in ipairs(entries) do
  ids[i] = entry[1]
end
for i, stored in ipairs(fetch(runs, ids)) do
  local mine = entries[i][2] .. ' ' .. ARGV[1] .. ' '
  told[i] = '0'
  for line in lines(stored) do
    if string.sub(line, 1, #mine) == mine then
      told[i] = '1'
    end
  end
end
touch()
return table.concat(told)
""")

_TAKE = r"""
-- Give the runs of members that are gone to others; `take` gives the line to keep, or nil.
local function hand_on(gone, take)
  local found, cursor = {}, '0'
  repeat
    local page = redis.call('HSCAN', runs, cursor, 'COUNT', 1000)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      found[page[2][i]] = page[2][i + 1]
    end
  until cursor == '0'
  for id, stored in pairs(found) do
    local kept, changed = {}, false
    for line in lines(stored) do
      local fence, member, call, mode, times = string.match(line, LINE)
      if gone[member] then
        changed = true
        line = take(id, fence, member, mode, times)
      end
      kept[#kept + 1] = line
    end
    if changed then
      write_lines(id, kept)
    end
  end
end
"""

#: ARGV: member. Takes it out, with its runs at most once; the others are at once for others.
LEAVE = Script(
    _TAKE
    + r"""
local left = 0
hand_on({[ARGV[1]] = true}, function(id, fence, member, mode, times)
  if mode == '+' then
    left = left + 1
    return fence .. ' ' .. member .. ' 0 + ' .. times
  end
end)
redis.call('HDEL', meta, 'taken ' .. ARGV[1])
if left == 0 then
  redis.call('ZREM', members, ARGV[1])
else
  redis.call('ZADD', members, '-inf', ARGV[1])
end
"""
)

#: ARGV: now, member, the number of this call. Gives the runs of members whose leases ran out: id,
#: times, fence, record or false, member. The same call may be made again, and gives the same.
ORPHANS = Script(
    _TAKE
    + r"""
local me, gone, expelled, found = ARGV[2], {}, {}, {}
local taken = redis.call('HGET', meta, 'taken ' .. me)
if taken then
  local call, answer = string.match(taken, '^(%d+) (.*)$')
  if call == ARGV[3] then
    touch()
    return answer
  end
  redis.call('HDEL', meta, 'taken ' .. me)
end
local late = redis.call('ZRANGEBYSCORE', members, '-inf', text(instant(ARGV[1])))
for _, member in ipairs(late) do
  if member ~= me then
    gone[member] = true
    expelled[#expelled + 1] = member
    redis.call('HDEL', meta, 'taken ' .. member)
  end
end
if #expelled == 0 then
  return '[]'
end
hand_on(gone, function(id, fence, member, mode, times)
  if mode == '-' then
    return nil
  end
  local mine, record = draw(), mode == '+' and redis.call('HGET', again, fence .. ' ' .. id)
  if record then
    redis.call('HDEL', again, fence .. ' ' .. id)
    redis.call('HSET', again, mine .. ' ' .. id, record)
  else
    mode = '1'
  end
  found[#found + 1] = {id, times, mine, record, member}
  return mine .. ' ' .. me .. ' 0 ' .. mode .. ' ' .. times
end)
many('ZREM', members, expelled)
local answer = cjson.encode(found)
redis.call('HSET', meta, 'taken ' .. me, ARGV[3] .. ' ' .. answer)
return answer
"""
)

#: ARGV: member, entries of id, fence and the member who is gone. Has the runs be orphans again.
HAND_BACK = Script(
    r"""
for _, entry in ipairs(cjson.decode(ARGV[2])) do
  local id, mine, kept = entry[1], entry[2] .. ' ' .. ARGV[1] .. ' ', {}
  for line in lines(redis.call('HGET', runs, id)) do
    if string.sub(line, 1, #mine) == mine then
      line = entry[2] .. ' ' .. entry[3] .. ' ' .. string.sub(line, #mine + 1)
      redis.call('ZADD', members, '-inf', entry[3])
    end
    kept[#kept + 1] = line
  end
  write_lines(id, kept)
end
touch()
"""
)
