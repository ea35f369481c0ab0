//! Bytes that nobody wrote: decoders and recovery neither panic nor believe a length, and what is whole round-trips.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::basics::{batch, id, values};
use crate::storage::disk::memory::MemoryDisk;
use crate::storage::disk::{Disk, Mode, read_file};
use crate::storage::*;

const ROOT: &str = "/data";

type Fields = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn record() -> impl Strategy<Value = Fields> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let header = (bytes(), proptest::option::of(bytes()));
    let large = prop_oneof![9 => bytes(), 1 => proptest::collection::vec(any::<u8>(), 1000..3000)];
    (
        any::<i64>(),
        proptest::option::of(bytes()),
        proptest::option::of(large),
        proptest::collection::vec(header, 0..3),
    )
}

fn read_all(bytes: &[u8]) -> Option<Vec<Fields>> {
    let batch = Checked::new(bytes).ok()?.batches().next()?;
    let records = batch.records().ok()?.collect::<std::result::Result<Vec<_>, _>>().ok()?;
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let fields = |record: &Record<'_>| {
        let headers = record.headers.iter().map(|(name, value)| (name.to_vec(), owned(value))).collect();
        (record.timestamp, owned(record.key), owned(record.value), headers)
    };
    Some(records.iter().map(fields).collect())
}

fn store(disk: &Arc<MemoryDisk>) -> Result<Store> {
    let options = Options { flushing: Flushing::Manual, reserve_bytes: 0, ..Options::default() };
    Store::open_on(Arc::clone(disk) as Arc<dyn Disk>, Path::new(ROOT), options)
}

fn write(disk: &MemoryDisk, name: &str, content: &[u8]) {
    let path = Path::new(ROOT).join(name);
    disk.create_dir(path.parent().unwrap()).unwrap();
    disk.open(&path, Mode::Truncate).unwrap().write_at(&[IoSlice::new(content)], 0).unwrap();
}

fn read(disk: &MemoryDisk, name: &str) -> Vec<u8> {
    read_file(disk, &Path::new(ROOT).join(name), 1 << 30).unwrap().unwrap()
}

proptest! {
    #[test]
    fn batches_round_trip(records in proptest::collection::vec(record(), 1..20), epoch in 0i32..9, base in 0i64..1 << 40) {
        let mut builder = BatchBuilder::new();
        for (timestamp, key, value, headers) in &records {
            let headers: Vec<(&[u8], Option<&[u8]>)> = headers.iter().map(|(n, v)| (n.as_slice(), v.as_deref())).collect();
            builder.push_copied(*timestamp, key.as_deref(), value.as_deref(), &headers).unwrap();
        }
        let bytes = builder.to_vec(base, epoch);
        prop_assert_eq!(bytes.len(), builder.len());
        prop_assert_eq!(read_all(&bytes), Some(records));
        let header = Header::parse(&bytes).unwrap();
        prop_assert_eq!((header.base_offset, header.leader_epoch), (base, epoch));
        prop_assert_eq!(&header.to_bytes()[..], &bytes[..HEADER_LEN]);
        for cut in [0, 11, 60, 61, bytes.len() - 1] {
            let cut = &bytes[..cut.min(bytes.len() - 1)];
            let incomplete = matches!(Checked::new(cut), Err(BatchError::Incomplete { .. }));
            prop_assert!(incomplete);
        }
    }

    #[test]
    fn values_in_two_parts_are_one(parts in proptest::collection::vec((0usize..30, 0usize..3000), 1..12)) {
        let (mut split, mut whole) = (BatchBuilder::new(), BatchBuilder::new());
        for (head, body) in parts {
            let (head, body) = (vec![1; head], Bytes::from(vec![2; body]));
            split.push(7, Some(b"k"), &head, &body).unwrap();
            whole.push_copied(7, Some(b"k"), Some(&[&head[..], &body].concat()), &[]).unwrap();
        }
        prop_assert_eq!(split.to_vec(3, 4), whole.to_vec(3, 4));
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_outside_of_the_checksum(at in 0usize..4000, bit in 0u8..8) {
        let mut bytes = batch(&["one", "two", &"three".repeat(30)]).to_vec(5, 6);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(at < 17 || Checked::new(&bytes).is_err());
    }

    #[test]
    fn garbage_is_no_batch_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Checked::new(&bytes).is_err());
        let mut header = batch(&["x"]).to_vec(0, 0);
        header.truncate(HEADER_LEN);
        header.extend_from_slice(&bytes);
        if let Ok(parsed) = Header::parse(&header) {
            let parsed = Header { count: i32::MAX, last_offset_delta: i32::MAX, ..parsed };
            Records::new(&parsed, &header[HEADER_LEN..]).for_each(drop);
        }
    }

    #[test]
    fn recovery_takes_any_bytes_and_what_it_serves_is_whole(
        segment in proptest::collection::vec(any::<u8>(), 0..3000),
        whole in 0usize..6,
        index in proptest::collection::vec(any::<u8>(), 0..100),
        epochs in "[a-z0-9 \n]{0,40}",
        zeros in 0usize..2000,
    ) {
        let disk = Arc::new(MemoryDisk::new());
        let mut content: Vec<u8> = Vec::new();
        for number in 0..whole {
            content.extend(batch(&[&format!("value {number}")]).to_vec(number as i64, 0));
        }
        content.extend(&segment);
        content.resize(content.len() + zeros, 0);
        let folder = format!("logs/{}", id(1));
        write(&disk, &format!("{folder}/{:020}.log", 0), &content);
        write(&disk, &format!("{folder}/{:020}.idx", 0), &index);
        write(&disk, &format!("{folder}/epochs"), epochs.as_bytes());
        let store = store(&disk).unwrap();
        let log = store.log(id(1), LogConfig::default()).unwrap();
        prop_assert_eq!(log.end(), whole as i64);
        let expected: Vec<_> = (0..whole as i64).map(|n| (n, format!("value {n}"))).collect();
        prop_assert_eq!(values(&log, 0), expected);
        if let Some(cut) = &log.recovery().cut {
            let kept = read_file(&*disk, &cut.kept_in, 1 << 20).unwrap().unwrap();
            prop_assert!(segment.starts_with(&kept));
            prop_assert!(segment[kept.len()..].iter().all(|&byte| byte == 0));
        } else {
            prop_assert!(segment.iter().all(|&byte| byte == 0));
        }
        log.append_built(&mut batch(&["more"]), 0).unwrap();
        prop_assert_eq!(values(&log, whole as i64), [(whole as i64, "more".to_owned())]);
    }

    #[test]
    fn any_damage_below_the_checkpoint_is_refused_or_harmless(
        file in 0usize..3,
        at in any::<proptest::sample::Index>(),
        bits in 1u8..,
        clean in any::<bool>(),
    ) {
        let disk = Arc::new(MemoryDisk::new());
        let config = LogConfig { segment_bytes: 3000, compact: false };
        let opened = store(&disk).unwrap();
        let log = opened.log(id(1), config).unwrap();
        for number in 0..60i64 {
            let epoch = (number / 20) as i32;
            log.append_built(&mut batch(&[&format!("value {number} {}", "v".repeat(100))]), epoch).unwrap();
        }
        opened.flush().unwrap();
        let expected = values(&log, 0);
        drop(log);
        if clean { opened.close().unwrap() } else { drop(opened) }
        let names = disk.list(&Path::new(ROOT).join(format!("logs/{}", id(1)))).unwrap();
        let wanted = [".log", ".idx", "epochs"][file];
        let names: Vec<_> = names.iter().filter(|name| name.ends_with(wanted)).collect();
        let name = format!("logs/{}/{}", id(1), at.get(&names));
        let mut content = read(&disk, &name);
        // Reserved space holds nothing that could be damaged.
        let used = content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        prop_assume!(used > 0);
        content[at.index(used)] ^= bits;
        write(&disk, &name, &content);
        let store = store(&disk).unwrap();
        match store.log(id(1), config) {
            Err(Error::Corrupt { .. }) => prop_assert!(file == 0),
            Err(error) => prop_assert!(false, "{}", error),
            Ok(log) => {
                prop_assert!(log.recovery().cut.is_none());
                let mut reader = log.reader(0, i64::MAX);
                let mut count = 0;
                loop {
                    match reader.next_batch() {
                        Ok(Some(_)) => count += 1,
                        Ok(None) => break,
                        Err(Error::Corrupt { .. }) => { prop_assert!(file == 0); return Ok(()); }
                        Err(error) => prop_assert!(false, "{}", error),
                    }
                }
                prop_assert_eq!(count, 60);
                // An epoch or a base offset is not in the checksum: found when the segment is checked as a whole.
                if file > 0 {
                    prop_assert_eq!(values(&log, 0), expected);
                    prop_assert_eq!(log.epochs(), [(0, 0), (1, 20), (2, 40)]);
                }
            }
        }
    }
}
