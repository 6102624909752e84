# Sends a message after SCRAM by Authen::SCRAM. Prints the replies; ends with 0 if the message was taken.
use strict;
use warnings;
use Authen::SCRAM::Client;
use JSON::PP;
use MIME::Base64;
use Net::SMTP;

my $job = decode_json($ARGV[0]);
my %tls = (SSL_ca_file => $job->{certificate}, SSL_verifycn_name => 'localhost', SSL_verifycn_scheme => 'smtp');
my $smtp = Net::SMTP->new(
    '127.0.0.1', Port => $job->{port}, Timeout => $job->{timeout}, $job->{implicitTls} ? (SSL => 1, %tls) : (),
) or die "cannot connect: $@";
$job->{implicitTls} or $smtp->starttls(%tls) or die "STARTTLS failed: $@";

# Says a line, and expects a code; the text of the reply.
sub ask {
    my ($expected, @line) = @_;
    $smtp->command(@line)->response;
    my $text = join ' ', map { my $line = $_; $line =~ s/\s+$//; $line } $smtp->message;
    print $smtp->code, " $text\n";
    $smtp->code == $expected or exit 1;
    return $text;
}

my ($digest) = $job->{mechanism} =~ /^SCRAM-(SHA-\d+)$/ or die "no mechanism of Authen::SCRAM";
my $client = Authen::SCRAM::Client->new(username => $job->{user}, password => $job->{secret}, digest => $digest);
my $challenge = ask(334, 'AUTH', $job->{mechanism}, encode_base64($client->first_msg, ''));
my $signature = ask(334, encode_base64($client->final_msg(decode_base64($challenge)), ''));
$client->validate(decode_base64($signature)) or die "the server does not have the password";
ask(235, '');

ask(250, "MAIL FROM:<$job->{from}>");
ask(250, "RCPT TO:<$job->{to}>");
open my $message, '<:raw', $job->{message} or die "no message: $!";
my $content = do { local $/; <$message> };
$smtp->data or die 'DATA was refused';
$smtp->datasend($content) && $smtp->dataend;
print $smtp->code, "\n";
exit($smtp->code == 250 ? 0 : 1);
