# A client that speaks the frontend/backend protocol itself, message by message,
# for what psql and pgbench never send.  Trust authentication, no SSL.
package Wire;

use strict;
use warnings;

use IO::Socket::UNIX;

sub new
{
	my ($class, $node) = @_;
	my $self = bless {
		socket => IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) },
	  $class;
	my $parameters = join("\0", user => getpwuid($<) . '', database => 'postgres', application_name => 'wire', '', '');
	die "cannot connect: $!" unless $self->{socket};
	$self->{socket}->print(pack('NN', 8 + length($parameters), 196608) . $parameters);
	$self->ready;
	return $self;
}

sub put
{
	my ($self, $type, $body) = @_;
	$self->{socket}->print($type . pack('N', 4 + length($body)) . $body);
	$self->{socket}->flush;
	return;
}

sub query { my ($self, $text) = @_; $self->put('Q', "$text\0"); return $self->ready; }
sub parse { my ($self, $name, $text) = @_; $self->put('P', "$name\0$text\0" . pack('n', 0)); return; }

# parameters and results are text
sub bind
{
	my ($self, $portal, $name, @values) = @_;
	$self->put('B', "$portal\0$name\0" . pack('nn', 0, scalar @values) .
		join('', map { pack('N', length) . $_ } @values) . pack('n', 0));
	return;
}
sub execute { my ($self, $portal, $rows) = @_; $self->put('E', "$portal\0" . pack('N', $rows // 0)); return; }
sub flush { my ($self) = @_; $self->put('H', ''); return; }
sub sync { my ($self) = @_; $self->put('S', ''); return; }

# Read messages up to one of a type: the types as a string, and in the object
# the SQLSTATEs of the errors among them and the transaction's state.
sub until
{
	my ($self, $last) = @_;
	my $types = '';
	$self->{errors} = [];
	while (1)
	{
		my ($head, $body) = ('', '');
		die 'connection closed' unless read($self->{socket}, $head, 5) == 5;
		my ($type, $length) = unpack('aN', $head);
		read($self->{socket}, $body, $length - 4);
		push @{ $self->{errors} }, $body =~ /\0C(.....)\0/ if $type eq 'E';
		$self->{state} = $body if $type eq 'Z';
		$types .= $type unless $type =~ /[SKNRA]/;
		return $types if $type eq $last;
	}
}
sub ready { my ($self) = @_; return $self->until('Z'); }
sub close { my ($self) = @_; $self->put('X', ''); $self->{socket}->close; return; }

1;
