//! Questions and answers between the daemon and its monitor: datagrams on a pair of Unix sockets, each
//! answer with at most one descriptor. (unix(7), SOCK_SEQPACKET)

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Longer no message is: a path of the kernel's, and what is said beside it.
const LONGEST: usize = 8192;

/// The end that asks. One thread at a time: the others wait.
#[derive(Debug)]
pub struct Channel(Mutex<OwnedFd>);

/// A message, and the descriptor that came with it.
#[derive(Debug)]
pub struct Message {
    /// What was said.
    pub bytes: Vec<u8>,
    /// The descriptor.
    pub descriptor: Option<OwnedFd>,
}

impl Channel {
    /// A channel, and the end that answers.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (asks, answers) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(Mutex::new(asks)), answers))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// EPIPE or ECONNRESET when nobody answers any more.
    pub fn ask(&self, question: &[u8]) -> io::Result<Message> {
        let socket = self.0.lock();
        send(socket.as_fd(), question, None)?;
        receive(socket.as_fd())?.ok_or_else(|| Errno::PIPE.into())
    }
}

/// Answers each question until nobody can ask any more.
///
/// # Errors
/// Those of recvmsg(2) and sendmsg(2).
pub fn answer_all(
    socket: BorrowedFd<'_>,
    mut answer: impl FnMut(&[u8]) -> (Vec<u8>, Option<OwnedFd>),
) -> io::Result<()> {
    while let Some(question) = receive(socket)? {
        let (bytes, descriptor) = answer(&question.bytes);
        send(socket, &bytes, descriptor.as_ref())?;
    }
    Ok(())
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor.as_fd()]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// The next message; `None` at the end. An empty one is the end, too.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Message>> {
    let mut bytes = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let len = loop {
        let mut data = [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?.bytes,
        }
    };
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((len > 0).then(|| Message { bytes: bytes[..len].to_vec(), descriptor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_and_the_end_is_noticed_on_both_sides() {
        let (channel, answers) = Channel::new().unwrap();
        let served = std::thread::spawn(move || {
            answer_all(answers.as_fd(), |question| {
                let file = std::fs::File::open("/dev/null").unwrap();
                (question.iter().rev().copied().collect(), Some(file.into()))
            })
        });
        let answer = channel.ask(b"abc").unwrap();
        assert!(answer.bytes == b"cba" && answer.descriptor.is_some());
        drop(channel);
        served.join().unwrap().unwrap();
        let (channel, answers) = Channel::new().unwrap();
        drop(answers);
        channel.ask(b"abc").unwrap_err();
    }
}
