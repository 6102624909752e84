//! What the server is told to do, each in one step: scripts are atomic.

use std::hash::{BuildHasher as _, RandomState};

use redis::Pipeline;

use super::counted::{Counts, Measure};

/// Tells two counts of the same key apart, of which the first has expired, or is lost with the server: its value. Of what
/// is counted by the parts of a window, the part.
pub(super) type Stamp = i64;

/// The stamps of what was taken, in the order of the counts.
pub(super) type Stamps = [Stamp; 2];

/// Asks whether there is room in all counts, and takes it in all of them if there is.
pub(super) fn take(pipeline: &mut Pipeline, counts: &Counts, stamp: Stamp) {
    let script = if by_parts(counts) { TAKE_IN_PARTS } else { TAKE };
    begin(pipeline, script, counts).arg(stamp);
    add_limits(pipeline, counts);
}

/// Asks whether there is room in all counts.
pub(super) fn look(pipeline: &mut Pipeline, counts: &Counts) {
    take(pipeline, counts, 0);
}

/// Counts so many for which nothing was taken.
pub(super) fn count(pipeline: &mut Pipeline, counts: &Counts, stamp: Stamp, amount: u32) {
    if by_parts(counts) {
        begin(pipeline, COUNT_IN_PARTS, counts).arg(amount);
    } else {
        begin(pipeline, COUNT, counts).arg(stamp);
    }
    add_limits(pipeline, counts);
}

/// Gives so many back that were taken.
pub(super) fn release(pipeline: &mut Pipeline, counts: &Counts, stamps: Stamps, amount: u32) {
    let script = if by_parts(counts) { RELEASE_IN_PARTS } else { RELEASE };
    begin(pipeline, script, counts);
    for (counted, stamp) in counts.iter().flatten().zip(stamps) {
        let amount = u64::from(amount);
        match counted.measure {
            Measure::Bucket(bucket) => pipeline.arg(stamp).arg(bucket.step_ms().saturating_mul(amount)),
            Measure::Window { .. } => pipeline.arg(stamp).arg(amount),
        };
    }
}

fn begin<'p>(pipeline: &'p mut Pipeline, script: &str, counts: &Counts) -> &'p mut Pipeline {
    let keys: Vec<String> = counts.iter().flatten().map(|counted| counted.key.name()).collect();
    pipeline.cmd("EVAL").arg(script).arg(keys.len()).arg(keys)
}

/// Two numbers for each key: what one adds and what there is room for, or the length of a part and the limit.
fn add_limits(pipeline: &mut Pipeline, counts: &Counts) {
    for counted in counts.iter().flatten() {
        match counted.measure {
            Measure::Bucket(bucket) => pipeline.arg(bucket.step_ms()).arg(bucket.brim_ms()),
            Measure::Window { part_ms, limit } => pipeline.arg(part_ms).arg(limit),
        };
    }
}

fn by_parts(counts: &Counts) -> bool {
    counts.iter().flatten().any(|counted| matches!(counted.measure, Measure::Window { .. }))
}

/// What the server says to a [`take`] or a [`look`].
pub(super) struct Taken {
    pub(super) has_room: bool,
    /// For each key that is counted, in milliseconds: its time to live, or how long there is no room, by its measure.
    pub(super) times: Times,
    pub(super) stamps: Stamps,
}

/// In the order of the counts.
pub(crate) type Times = [i64; 2];

impl Taken {
    /// `None` for what no such server says.
    pub(super) fn parse(answer: &[i64], counts: &Counts) -> Option<Self> {
        let (has_room, keys) = answer.split_first()?;
        let (mut times, mut stamps) = ([0; 2], [0; 2]);
        for ((time, stamp), key) in times.iter_mut().zip(&mut stamps).zip(keys.chunks(2)) {
            let [told_time, told_stamp] = key else { return None };
            (*time, *stamp) = (*told_time, *told_stamp);
        }
        let complete = keys.len() == 2 * counts.iter().flatten().count();
        complete.then_some(Self { has_room: *has_room == 1, times, stamps })
    }
}

/// Where a process begins to number its stamps, so that no two make the same. They fit into a number of the server's
/// language, which has 53 bits.
pub(super) fn first_stamp() -> Stamp {
    let random = RandomState::new().hash_one(0_u8) % (1 << 52);
    i64::try_from(random).unwrap_or(0).max(1)
}

/// The times to live are the counts. `ARGV`: a stamp for new keys, 0 to look only; for each key, what a failure adds
/// and how much there is room for. Returns 1 if there is room, and for each key its time to live and its stamp.
const TAKE: &str = "\
local answer, spent = {1}, {} \
for i, key in ipairs(KEYS) do \
    spent[i] = math.max(redis.call('PTTL', key), 0) \
    if spent[i] + ARGV[2 * i] > tonumber(ARGV[2 * i + 1]) then answer[1] = 0 end \
end \
for i, key in ipairs(KEYS) do \
    local stamp = 0 \
    if answer[1] == 1 and ARGV[1] ~= '0' then \
        stamp = spent[i] > 0 and tonumber(redis.call('GET', key)) or tonumber(ARGV[1]) \
        spent[i] = spent[i] + ARGV[2 * i] \
        redis.call('SET', key, stamp, 'PX', spent[i]) \
    end \
    answer[2 * i], answer[2 * i + 1] = spent[i], stamp \
end \
return answer";

/// `ARGV`: as above. Returns the times to live.
const COUNT: &str = "\
local answer = {} \
for i, key in ipairs(KEYS) do \
    local before = math.max(redis.call('PTTL', key), 0) \
    local stamp = before > 0 and tonumber(redis.call('GET', key)) or tonumber(ARGV[1]) \
    answer[i] = math.min(before + ARGV[2 * i], tonumber(ARGV[2 * i + 1])) \
    redis.call('SET', key, stamp, 'PX', answer[i]) \
end \
return answer";

/// `ARGV`: for each key, its stamp and what there is to give back. A key with another stamp is another count. Returns
/// the times to live.
const RELEASE: &str = "\
local answer = {} \
for i, key in ipairs(KEYS) do \
    answer[i] = math.max(redis.call('PTTL', key), 0) \
    if answer[i] > 0 and tonumber(redis.call('GET', key)) == tonumber(ARGV[2 * i - 1]) then \
        answer[i] = math.max(answer[i] - ARGV[2 * i], 0) \
        if answer[i] > 0 then \
            redis.call('SET', key, ARGV[2 * i - 1], 'PX', answer[i]) \
        else \
            redis.call('DEL', key) \
        end \
    end \
end \
return answer";

/// Each part of a window has a field, by its number, with how many there were in it: what is in the part that has begun,
/// and in the twelve before it, counts. `ARGV`: 0 to look only; for each key, the length of a part and the limit. Returns 1
/// if there is room for one more, and for each key how long there is none, and the part. The server's clock is the one
/// that all have.
const TAKE_IN_PARTS: &str = "\
local time, answer = redis.call('TIME'), {1} \
local now = time[1] * 1000 + math.floor(time[2] / 1000) \
for i, key in ipairs(KEYS) do \
    local length, limit = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1]) \
    local part, parts, sum = math.floor(now / length), {}, 0 \
    local stored = redis.call('HGETALL', key) \
    for j = 1, #stored, 2 do \
        local one = {tonumber(stored[j]), tonumber(stored[j + 1])} \
        if one[1] >= part - 12 then \
            sum = sum + one[2] \
            parts[#parts + 1] = one \
        else \
            redis.call('HDEL', key, stored[j]) \
        end \
    end \
    answer[2 * i], answer[2 * i + 1] = 0, part \
    if sum >= limit then \
        answer[1] = 0 \
        table.sort(parts, function(a, b) return a[1] < b[1] end) \
        for _, one in ipairs(parts) do \
            sum = sum - one[2] \
            if sum < limit then \
                answer[2 * i] = (one[1] + 13) * length - now \
                break \
            end \
        end \
    end \
end \
if answer[1] == 1 and ARGV[1] ~= '0' then \
    for i, key in ipairs(KEYS) do \
        redis.call('HINCRBY', key, answer[2 * i + 1], 1) \
        redis.call('PEXPIRE', key, 14 * ARGV[2 * i]) \
    end \
end \
return answer";

/// `ARGV`: how many; for each key, the length of a part and the limit, which is not looked at.
const COUNT_IN_PARTS: &str = "\
local time = redis.call('TIME') \
local now = time[1] * 1000 + math.floor(time[2] / 1000) \
for i, key in ipairs(KEYS) do \
    redis.call('HINCRBY', key, math.floor(now / ARGV[2 * i]), ARGV[1]) \
    redis.call('PEXPIRE', key, 14 * ARGV[2 * i]) \
end \
return {}";

/// `ARGV`: for each key, the part in which it was taken and how many to give back. What is over by now is not there.
const RELEASE_IN_PARTS: &str = "\
for i, key in ipairs(KEYS) do \
    local there = tonumber(redis.call('HGET', key, ARGV[2 * i - 1]) or 0) \
    if there > tonumber(ARGV[2 * i]) then \
        redis.call('HINCRBY', key, ARGV[2 * i - 1], -ARGV[2 * i]) \
    elseif there > 0 then \
        redis.call('HDEL', key, ARGV[2 * i - 1]) \
    end \
end \
return {}";
