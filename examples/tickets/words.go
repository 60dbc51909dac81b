package tickets

// The words that fill the slots, and the sentences that any ticket may hold.
var (
	products   = []string{"Glow lamp", "Glow Mini", "desk lamp", "light strip", "ceiling lamp", "Lumora Hub", "motion sensor", "wall switch", "garden light", "bedside lamp", "starter kit", "bulb", "Glow Pro", "dimmer"}
	plans      = []string{"Plus plan", "Family plan", "Basic plan", "yearly plan", "Premium subscription", "Team plan", "monthly plan", "trial"}
	months     = []string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October"}
	weekdays   = []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
	cities     = []string{"Leeds", "Munich", "Köln", "Denver", "Boston", "Lyon", "Zürich", "Dublin", "Austin", "Düsseldorf", "Malmö", "Porto", "Seattle", "Graz"}
	devices    = []string{"Pixel", "iPhone", "iPad", "Android tablet", "laptop", "old Samsung", "MacBook", "work phone", "Windows PC"}
	firstNames = []string{"Anna", "Ben", "Chloe", "David", "Elif", "Fatima", "George", "Hannah", "Ivan", "Julia", "Karim", "Laura", "Marek", "Nina", "Oliver", "Priya", "Quentin", "Rosa", "Sören", "Tomás", "Uma", "Viktor", "Wendy", "Xavier", "Yuki", "Zoë", "Jürgen", "Käthe", "Noah", "Mei"}
	lastNames  = []string{"Adler", "Brown", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad", "Ito", "Jansen", "Khan", "Larsen", "Müller", "Novak", "O'Brien", "Petrov", "Quinn", "Rossi", "Schäfer", "Tanaka", "Usman", "Vogel", "Weiß", "Young", "Zhang", "Nuñez", "Okafor", "Patel"}

	openers = []string{"Hi,", "Hello,", "Hi there,", "Hello team,", "Dear support,", "Good morning,", "Hey,", "Good evening,", "To whom it may concern,", "Hi again,", "Hello Lumora,"}

	closers = []string{
		"Thanks[!|.| in advance.| for your help.]", "Thank you[.| very much.| for looking into this.]", "Please [help|advise|let me know|get back to me soon].",
		"Best regards", "Kind regards", "Cheers", "Any help is [welcome|appreciated].", "Looking forward to your answer.", "This is [urgent|rather urgent|not urgent|getting annoying].",
		"I [hope|expect] to hear from you [soon|today|this week].", "What should I do[ now| next|]?", "Can someone look into this[ please|]?",
	}

	// asides can stand in a ticket of any category: they hold the words of other
	// categories, so that one word alone does not give the answer away.
	asides = []string{
		"I have been a customer [for {n} years|since {month}] and [otherwise I am happy|never had trouble before].",
		"[Everything else|The rest of the app|The other lamp] works fine.",
		"I paid [by card|with PayPal|by invoice], in case that matters.",
		"The parcel itself came [on time|quickly], no complaint there.",
		"I can log in without [problems|any trouble], so it is not that.",
		"My order number is {order}.", "It is about order {order}.", "Reference {invoice}, if you need it.",
		"I am on the {plan}.", "We bought the {product} in {month}.", "I live in {city}[, if that is important|].",
		"I already [restarted|reinstalled] everything [twice|{n} times].",
		"I tried the chat but [nobody answered|waited {n} minutes for nothing].",
		"My [wife|husband|neighbour|colleague] has the same [question|problem|thing].",
		"I asked this [last week|on {weekday}|{n} days ago] [too|already] and got no answer.",
		"The invoice and the delivery note are attached.",
		"I read the [help page|manual|FAQ] and did not find [an answer|it].",
		"I do not want to cancel [or anything|yet], I just want this solved.",
		"This happens on my {device}[ and on my {device}| too|].",
		"Otherwise a [great|lovely|nice] product[, really|].",
		"The account is in my [wife's|husband's|company's] name.",
		"It is the [first|second|third] time [this year|in {month}|in a row].",
	}

	contacts = []string{
		"You can reach me at {email}.", "My address is {email}.", "Please write to {email}[ or call {phone}|].", "Call me on {phone}[ after {n} pm|].",
		"My number is {phone}.", "The account belongs to {email}.", "Phone: {phone}", "Mail: {email}",
	}

	emoji = []string{"🙏", "😊", "😡", "😕", "👍", "💡", "🤔", "😭", "🎉", "❤️"}
)
